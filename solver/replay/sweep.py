"""Many policies on the same recordings: numbers with intervals, and the Pareto front among them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import heappop, heappush

from solver.journal.recorded_run import RecordedRun
from solver.policy.budget import even_share, plan
from solver.policy.closing import Closing
from solver.policy.pace import Pace
from solver.policy.seeds import trajectory_seed
from solver.policy.statistics import Interval, nested_interval
from solver.replay.fit import fit_speeds
from solver.replay.policy import Policy
from solver.replay.problem import NotRecorded, ReplayProblem, replay_problems
from solver.replay.simulate import Draw, Outcome, simulate
from solver.replay.speeds import Speeds
from solver.scorers import Selection, find_scorer
from solver.types import ProblemBudget, Vote

DRAWS = 20  # random subsets of the trajectories of a problem
_NO_VOTE = Vote(None, {}, 0, 0, tied=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One policy. `accuracy` of the answers and `average` of the voters are shares of 1, None if no
    problem's answer is known; `tokens` are a problem's, `seconds` the whole run's; `in_time` is the
    share of problems that no deadline cut. `front`: no other row is as accurate and faster, or more
    accurate and as fast.
    """

    policy: Policy
    accuracy: Interval | None
    average: Interval | None
    tokens: Interval
    seconds: Interval
    in_time: Interval
    num_draws: int
    front: bool = False


class Replay:
    """Recordings of one machine, to replay policies on; outcomes without a deadline are cached."""

    def __init__(self, recordings: Sequence[RecordedRun], speeds: Speeds | None = None) -> None:
        """`speeds` are fitted to the recordings unless they are given."""
        self.recordings = recordings
        self.speeds = speeds or fit_speeds(recordings)
        self.problems = [
            replay_problems(recording, self.speeds.crowding) for recording in recordings
        ]
        self._known: dict[tuple[int, int, Policy, Draw, int], Outcome] = {}

    @property
    def num_launched(self) -> int:
        """Trajectories that every problem has."""
        return min(len(problem.indices) for problems in self.problems for problem in problems)

    def session(self, run: int, policy: Policy, number: int, seed: int = 0) -> list[Outcome]:
        """All problems of recording `run` in order, on the clock of a run with the policy's limit.

        Where time is short, some are solved at once, as in a run. The `seconds` of an outcome are those from
        the end of the one before it to its own.
        """
        config = policy.config(self.recordings[run].config)
        prune = find_scorer(policy.scorer).selection.of(config.prune)
        problems, now, end = self.problems[run], self.speeds.load_s, policy.limit_s
        first_share = even_share(now, end, len(problems), config.budget)
        pace = Pace.expected(config.pace, config.prune)
        closing = Closing(config.budget.closing_s)
        outcomes: list[Outcome] = []
        under_way: list[tuple[float, int, Fraction]] = []  # its end, which one it is, its part
        free, left = Fraction(1), len(problems)
        while left:
            kept = config.budget.model_copy(update={"closing_s": closing.seconds(left)})
            budget = plan(now, end, left, kept, prune, pace, first_share, spread=True)
            if len(outcomes) == len(problems) or budget.part > free:
                ended, place, given_back = heappop(under_way)
                outcome = outcomes[place]
                pace, closing = pace.after(outcome.taken), closing.after(self.speeds.write_s)
                outcomes[place] = replace(outcome, seconds=ended - now)
                now, left, free = ended, left - 1, free + given_back
            elif budget.launch is None:  # there is no time
                outcomes.append(Outcome(False, 0.0, _NO_VOTE, 0, 0.0, cut=policy.launch))
                closing, left = closing.after(self.speeds.write_s), left - 1
            else:
                outcome = self._outcome(run, len(outcomes), policy, budget, now, number, seed)
                heappush(under_way, (now + outcome.seconds, len(outcomes), budget.part))
                outcomes.append(outcome)
                free -= budget.part
        return outcomes

    def _outcome(
        self,
        run: int,
        place: int,
        policy: Policy,
        budget: ProblemBudget,
        now: float,
        number: int,
        seed: int,
    ) -> Outcome:
        """What comes of the problem at `place` that begins now with this budget."""
        assert budget.launch is not None and budget.checks is not None, "there is time"
        problem, run_seed = self.problems[run][place], self.recordings[run].config.seed
        draw = draw_of(problem, budget.launch, number, seed)
        paid_for = replace(policy, launch=budget.launch, checks=budget.checks)
        unlimited = replace(paid_for, limit_s=None)
        key = run, place, unlimited, draw, budget.at_once
        if key not in self._known:
            played = simulate(
                problem, unlimited, draw, run_seed, self.speeds, at_once=budget.at_once
            )
            self._known[key] = played
        soft_deadline = budget.soft_deadline - now
        if self._known[key].seconds <= soft_deadline:
            return self._known[key]
        return simulate(
            problem,
            paid_for,
            draw,
            run_seed,
            self.speeds,
            soft_deadline,
            budget.reserve_s,
            budget.at_once,
        )


def draw_of(problem: ReplayProblem, launch: int, number: int, seed: int) -> Draw:
    """`launch` of the recorded trajectories: the first ones for number 0, else a seeded subset.

    Raises `NotRecorded` if there are not so many.
    """
    if launch > len(problem.indices):
        raise NotRecorded(
            f"launch={launch}: only {len(problem.indices)} trajectories of {problem.id} are"
            f" recorded; record with --launch {launch}"
        )
    if number == 0 or launch == len(problem.indices):
        return Draw(number, problem.indices[:launch])
    chooser = random.Random(trajectory_seed(seed, problem.id, number))
    return Draw(number, tuple(sorted(chooser.sample(problem.indices, launch))))


def sweep(
    replay: Replay,
    policies: Sequence[Policy],
    draws: int = DRAWS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Row]:
    """One row a policy, in their order, with the Pareto front marked; `progress` counts rows."""
    rows = []
    for policy in policies:
        rows.append(_row(replay, policy, draws, seed))
        progress(len(rows))
    return [replace(row, front=_on_front(row, rows)) for row in rows]


def _row(replay: Replay, policy: Policy, draws: int, seed: int) -> Row:
    drawn = find_scorer(policy.scorer).selection is Selection.RANDOM
    varies = drawn or policy.launch < replay.num_launched
    num_draws = draws if varies else 1
    by_problem: dict[str, list[Outcome]] = defaultdict(list)
    known: set[str] = set()
    for run, problems in enumerate(replay.problems):
        known |= {problem.id for problem in problems if problem.known_answer is not None}
        for number in range(num_draws):
            outcomes = replay.session(run, policy, number, seed)
            for problem, outcome in zip(problems, outcomes, strict=True):
                by_problem[problem.id].append(outcome)

    def interval(of: Callable[[Outcome], float], ids: set[str] | None = None) -> Interval:
        chosen = by_problem if ids is None else {i: by_problem[i] for i in by_problem if i in ids}
        return nested_interval([[of(o) for o in outcomes] for outcomes in chosen.values()], seed)

    each = interval(lambda outcome: outcome.seconds)
    load_s, count = replay.speeds.load_s, len(by_problem)
    return Row(
        policy=policy,
        accuracy=interval(lambda outcome: outcome.right, known) if known else None,
        average=interval(lambda outcome: outcome.average, known) if known else None,
        tokens=interval(lambda outcome: outcome.tokens),
        seconds=Interval(*(load_s + count * s for s in (each.value, each.low, each.high))),
        in_time=interval(lambda outcome: outcome.cut == 0),
        num_draws=num_draws,
    )


def _on_front(row: Row, rows: Sequence[Row]) -> bool:
    def place(one: Row) -> tuple[float, float]:
        return (one.accuracy.value if one.accuracy else 0.0), -one.seconds.value

    mine = place(row)
    return not any(
        all(a >= b for a, b in zip(place(other), mine, strict=True)) and place(other) != mine
        for other in rows
    )
