"""What time each problem of a session gets, from the time that is left and what others took.

The decisions are `solver.policy`'s; here is what they are asked about, as it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from solver.config import PruneConfig, SolverConfig
from solver.journal.events import Solved
from solver.policy.budget import even_share, plan
from solver.policy.closing import Closing
from solver.policy.pace import Pace
from solver.ports import Clock
from solver.types import Problem, ProblemBudget


class Schedule:
    """The answers of a session so far, and the budget of the problem that comes next."""

    def __init__(
        self,
        problems: Sequence[Problem],
        solved: Mapping[str, Solved],
        config: SolverConfig,
        prune: PruneConfig,
        clock: Clock,
        started_at: float,
        *,
        by_pace: bool,
        engines: int = 1,
        spread: bool = False,
    ) -> None:
        """`solved` are answers of earlier processes; `prune` says how many are launched and kept.

        `by_pace`: whether time that is short shrinks them; `spread`: whether more problems are solved at once
        then. `engines` work side by side.
        """
        self._problems = problems
        self._answers = dict(solved)
        self._budget = config.budget
        self._prune = prune
        self._clock = clock
        limit = config.budget.time_limit_s
        self._deadline = None if limit is None else started_at + limit
        self._by_pace, self._spread = by_pace, spread
        self._pace = Pace.expected(config.pace, config.prune)
        for earlier in solved.values():
            self._pace = self._pace.after(earlier.taken)
        self._closing = Closing(config.budget.closing_s)
        self.unsolved = [problem for problem in problems if problem.id not in solved]
        self._first_share = 0.0
        if self.unsolved:
            now, left = clock.now(), len(self.unsolved)
            self._first_share = even_share(now, self._deadline, left, self._budget, engines)

    @property
    def answers(self) -> list[Solved]:
        """Every answer, in the order of the problems, once all are there."""
        return [self._answers[problem.id] for problem in self._problems]

    def budget(self, engines: int = 1) -> ProblemBudget:
        """The budget of a problem that begins now, if `engines` work side by side."""
        left = len(self._problems) - len(self._answers)  # those under way included
        return plan(
            self._clock.now(),
            self._deadline,
            left,
            self._budget.model_copy(update={"closing_s": self._closing.seconds(left)}),
            self._prune,
            self._pace if self._by_pace else Pace(),  # a full recording is made of all trajectories
            self._first_share,
            engines,
            spread=self._spread,
        )

    def answered(self, answer: Solved, recording_s: float | None) -> None:
        """A problem has its answer; `recording_s` is what writing it took, None if it was not written."""
        self._answers[answer.problem_id] = answer
        self._pace = self._pace.after(answer.taken)
        if recording_s is not None:
            self._closing = self._closing.after(recording_s)
