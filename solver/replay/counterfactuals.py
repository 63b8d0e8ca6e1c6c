"""Counterfactuals: how dropped trajectories end, when a vote is clear, what stopping early saves.

Functions of full recordings under one policy, with the first trajectories of each problem, as in a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from solver.config import VoteConfig
from solver.journal.history import ProblemHistory
from solver.policy.prune import last_scores
from solver.policy.vote import vote
from solver.policy.weights import weigh
from solver.replay.policy import Policy
from solver.replay.problem import ReplayProblem
from solver.replay.sweep import Replay, draw_of
from solver.replay.votes import decisions, vote_of
from solver.types import Vote


@dataclass(frozen=True, slots=True)
class Pruned:
    """One problem: the answers of voters and of the dropped (None: no answer), and both votes.

    `right_voters` and `right_dropped` count right answers. `lost`: all N would have voted right, the
    voters did not; `won` is the opposite. Both are False where the answer is not known.
    """

    problem_id: str
    voters: Mapping[int | None, int]
    dropped: Mapping[int | None, int]
    right_voters: int
    right_dropped: int
    vote: Vote
    vote_of_all: Vote
    lost: bool
    won: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """The vote at one moment of a problem, `seconds` after it began."""

    seconds: float
    vote: Vote


@dataclass(frozen=True, slots=True)
class StopRule:
    """What a rule for stopping early gives over all problems, against never stopping early."""

    stop: str
    num_right: int
    tokens: int
    seconds: float
    num_early: int
    num_changed: int  # problems whose answer is another one than without the rule


def pruned(problem: ReplayProblem, policy: Policy, run_seed: int) -> Pruned:
    """What pruning did to one problem. Raises `NotRecorded`."""
    indices = draw_of(problem, policy.launch, 0, 0).indices
    checks = decisions(problem, policy, indices, run_seed)
    dropped = {index for decision in checks for index in decision.dropped}
    voters = [index for index in indices if index not in dropped]
    scores = last_scores(checks)
    kept_vote = vote_of(problem, voters, scores, policy.vote)
    all_vote = vote_of(problem, indices, scores, policy.vote)
    kept_right, all_right = problem.right(kept_vote.answer), problem.right(all_vote.answer)
    return Pruned(
        problem_id=problem.id,
        voters=Counter(problem.paths[index].ballot.answer for index in voters),
        dropped=Counter(problem.paths[index].ballot.answer for index in dropped),
        right_voters=sum(problem.paths[index].right for index in voters),
        right_dropped=sum(problem.paths[index].right for index in dropped),
        vote=kept_vote,
        vote_of_all=all_vote,
        lost=all_right and not kept_right,
        won=kept_right and not all_right,
    )


def votes_over_time(problem: ProblemHistory, config: VoteConfig) -> list[Standing]:
    """The vote of the run's voters whenever one of them ended, on the recorded clock.

    `config` is the run's own; the weights are those that its checks gave.
    """
    cast = sorted((t.ended, t.index, t.ballot) for t in problem.voters if t.ended is not None)
    ballots = weigh([ballot for _, _, ballot in cast], problem.last_scores, config)
    return [
        Standing(ended - problem.started, vote(ballots[:num]))
        for num, (ended, _, _) in enumerate(cast, start=1)
    ]


def leader_shares(
    problems: Sequence[Sequence[Standing]], moments: Sequence[float]
) -> list[tuple[float, float, float]]:
    """At each share of the time to the last ballot: (share, problems with a leader, whose leader is
    the final one), as shares of the problems that had any vote; `problems` as `votes_over_time` tells."""
    told = [standings for standings in problems if standings]
    rows = []
    for moment in moments:
        led = final = 0
        for standings in told:
            until = moment * standings[-1].seconds
            seen = [s for s in standings if s.seconds <= until + 1e-9]
            leader = seen[-1].vote.answer if seen else None
            led += leader is not None
            final += leader is not None and leader == standings[-1].vote.answer
        count = max(1, len(told))
        rows.append((moment, led / count, final / count))
    return rows


def stop_rules(replay: Replay, policy: Policy) -> list[StopRule]:
    """Every rule for stopping early under an otherwise equal policy, `off` first."""
    found: list[StopRule] = []
    before: list[int | None] = []
    for stop in ("off", "certain", "posterior"):
        rule = replace(policy, vote=policy.vote.model_copy(update={"stop": stop}), limit_s=None)
        outcomes = [o for run in range(len(replay.problems)) for o in replay.session(run, rule, 0)]
        answers = [outcome.vote.answer for outcome in outcomes]
        before = before or answers
        found.append(
            StopRule(
                stop=stop,
                num_right=sum(outcome.right for outcome in outcomes),
                tokens=sum(outcome.tokens for outcome in outcomes),
                seconds=sum(outcome.seconds for outcome in outcomes),
                num_early=sum(outcome.vote.decided_early for outcome in outcomes),
                num_changed=sum(a != b for a, b in zip(answers, before, strict=True)),
            )
        )
    return found
