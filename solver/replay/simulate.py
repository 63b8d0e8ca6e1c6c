"""One problem, one policy, one set of trajectories: what is answered, for which tokens and seconds.

The vote is exact. Time is simulated, and with a deadline time decides who has a ballot: a trajectory
that is cut there has none, since what it would have answered when forced was never sampled. So
accuracy under a limit is a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from solver.policy.answer import FORCED_TOKENS
from solver.policy.consensus import early_vote, final_vote
from solver.policy.pace import Steps, Taken, taken_by
from solver.policy.prune import last_scores
from solver.replay.machine import Machine, Runner
from solver.replay.policy import Policy
from solver.replay.problem import ReplayProblem
from solver.replay.speeds import Speeds
from solver.replay.votes import decide
from solver.types import Ballot, Vote


@dataclass(frozen=True, slots=True)
class Draw:
    """Which recorded trajectories are launched; number 0 are the first ones, as in a run."""

    number: int
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A problem under a policy. `average` is the share of right ones among those who voted.

    `cut` counts voters that the deadline left without a ballot; `seconds` is the problem's time, `taken`
    what a run would have measured. `launch` and `keep` are those of its budget.
    """

    right: bool
    average: float
    vote: Vote
    tokens: int
    seconds: float
    cut: int = 0
    taken: Taken | None = None
    launch: int = 0
    keep: int = 0


def simulate(
    problem: ReplayProblem,
    policy: Policy,
    draw: Draw,
    run_seed: int,
    speeds: Speeds,
    soft_deadline: float = inf,
    reserve_s: float = 0.0,
    at_once: int = 1,
) -> Outcome:
    """Simulate a problem; `soft_deadline` is in seconds since it began, `reserve_s` comes after it.

    `at_once` such problems share the engine: it has so many times its streams.
    Raises `NotRecorded` for scores or ends that the journal lacks.
    """
    speeds = replace(speeds, token_s=at_once * speeds.token_s)
    machine = Machine(speeds, soft_deadline)
    machine.wait(speeds.before_s)
    runners = _runners(problem, draw.indices)
    left, decisions = set(draw.indices), []
    for at in policy.checks:
        waiting = problem.waiting(sorted(left), at.mark)
        for index in left:
            runners[index].goal = at.mark if index in waiting else None
        if not machine.run(runners[index] for index in left if not runners[index].finished):
            break  # time is over before the check
        decision = decide(problem, at, policy.scorer, waiting, run_seed, draw.number)
        if decision.dropped:
            machine.wait(speeds.check_s.get(policy.scorer, 0.0) * len(waiting))
        decisions.append(decision)
        left -= set(decision.dropped)
    voters = [runner for index, runner in runners.items() if index in left]
    scores = last_scores(decisions)
    weighed = problem.weigh([runner.path for runner in voters], scores, policy.vote)
    ballots = {ballot.index: ballot for ballot in weighed}
    going = [runner for runner in voters if not runner.finished]
    for runner in going:
        runner.goal = None
    machine.run(going, until=lambda: _early(voters, ballots, policy) is not None)

    vote, cut, forcing_s = _early(voters, ballots, policy), 0, 0.0
    if vote is None:
        cut = sum(not runner.finished for runner in voters)
        forcing_s = min(reserve_s, FORCED_TOKENS * speeds.step(cut, 0))
        cast = [ballots[runner.path.index] for runner in voters if runner.finished]
        vote = final_vote(cast, len(voters), policy.vote)
    if any(runner.finished and not runner.path.complete for runner in voters):
        raise problem.unfinished()
    right = [runner.path.right for runner in voters if runner.finished]
    seconds = machine.now + forcing_s + speeds.after_s
    return Outcome(
        right=problem.right(vote.answer),
        average=sum(right) / len(right) if right else 0.0,
        vote=vote,
        tokens=sum(runner.sampled for runner in runners.values()),
        seconds=seconds,
        cut=cut,
        taken=_taken(voters, cut > 0, policy, speeds, seconds, problem.most_tokens, at_once),
        launch=policy.launch,
        keep=policy.checks[-1].keep,
    )


def _taken(
    voters: Sequence[Runner],
    was_cut: bool,
    policy: Policy,
    speeds: Speeds,
    seconds: float,
    most: int,
    at_once: int,
) -> Taken:
    """What a run would have measured: it would have found the machine's speeds."""
    unfinished = [runner.sampled for runner in voters if not runner.finished]
    steps = Steps()
    mark = policy.checks[0].mark
    for streams in {policy.launch, *(keep for _, keep in policy.checks)}:
        steps += Steps.of(mark, at_once * streams, mark * speeds.step(streams, 0))
    return taken_by(
        steps=steps,
        ended=[runner.sampled for runner in voters if runner.finished],
        stopped=() if was_cut else unfinished,
        cut=unfinished if was_cut else (),
        silent=(),  # what they would have answered when forced was not sampled
        tools_s=[sum(leg.work_s or 0.0 for leg in runner.path.legs) for runner in voters],
        check_s=speeds.check_s.get(policy.scorer, 0.0),
        elapsed_s=seconds,
        launch=policy.launch,
        checks=policy.checks,
        most=most,
        at_once=at_once,
    )


def _runners(problem: ReplayProblem, indices: Sequence[int]) -> dict[int, Runner]:
    """Runners before their first token.

    Which trajectory encodes the shared prompt depends on the others, so the recorded costs of first
    requests are dealt out from the dearest on: a subset pays for the prompt too.
    """
    first = sorted((path.legs[0].encoded for path in problem.paths.values()), reverse=True)
    return {
        index: Runner(problem.paths[index], encoded)
        for index, encoded in zip(sorted(indices), first, strict=False)
    }


def _early(voters: Sequence[Runner], ballots: Mapping[int, Ballot], policy: Policy) -> Vote | None:
    """The vote if settled ballots decide it (no unfinished trajectory can precede them), else None."""
    cast = [ballots[runner.path.index] for runner in voters if runner.finished]
    places = [runner.place for runner in voters if not runner.finished]
    return early_vote(cast, places, len(voters), policy.vote)
