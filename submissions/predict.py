"""`predict`, as the gateway calls it: never raises, never hangs, always one row with an integer in range.

Each row waits for the solver until the problem's deadline at most, and then gets the best vote so far, or
the fallback answer if there is none.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from solver.config import BudgetConfig, SolverConfig
from solver.errors import named
from solver.policy.budget import even_share, plan
from solver.policy.pace import Pace
from solver.scorers import find_scorer
from solver.types import ProblemBudget
from submissions.frames import one_row, problem_of
from submissions.outcome import Outcome
from submissions.protocol import Task
from submissions.rowlog import Answered, Asked, How, Loaded, RowLog
from submissions.supervisor import Supervisor

_LOADING_SHARE = 0.5  # of the time left: the longest that a row waits for the model to be loaded
_ROW_SHARE = 0.95  # of what the gateway waits for a row: the rest is for its answer's way
_HEAD_START_SHARE, _HEAD_START_S = 0.05, 1.0  # how much earlier the worker's deadline is than ours


class Answerer:
    """Answers rows one at a time and divides the time left among those still to come.

    `num_problems` is known or estimated; rows beyond it are answered with the time that is left. No row but
    the first takes longer than `row_limit_s`, loading included. `on_answer` is called after each row.
    """

    def __init__(
        self,
        config: SolverConfig,
        started_at: float,
        num_problems: int,
        supervisor: Supervisor,
        log: RowLog,
        *,
        row_limit_s: float = math.inf,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        assert config.budget.time_limit_s is not None, "a submission has a time limit"
        self._config = config
        self._run_deadline = started_at + config.budget.time_limit_s
        self._num_problems = num_problems
        self._supervisor = supervisor
        self._log = log
        self._row_limit_s = row_limit_s
        self._on_answer = on_answer
        self._answers: dict[str, int] = {}
        self._prune = find_scorer(config.prune.scorer).selection.of(config.prune)
        self._pace = Pace.expected(config.pace, config.prune)
        self._first_share: float | None = None
        self._number = 0
        self._num_voted = 0
        self._one_at_a_time = threading.Lock()

    @property
    def all_fallback(self) -> bool:
        """Whether there were rows, and none was answered by a vote."""
        return bool(self._answers) and self._num_voted == 0

    def predict(self) -> Callable[..., Any]:
        """A plain function with the name that gateways look for."""

        def predict(*values: object, **keywords: object) -> Any:
            problem_id, statement = "", ""
            try:
                problem_id, statement = problem_of((*values, *keywords.values()))
            except Exception as error:  # a row that cannot be read still needs an answer
                self._log.note(f"a row could not be read: {named(error)}")
            return one_row(problem_id, self.answer(problem_id, statement))

        return predict

    def answer(self, problem_id: str, statement: str) -> int:
        """The answer to one problem, in range and in time, whatever happens."""
        began, lost_before = time.monotonic(), self._supervisor.lost_s
        with self._one_at_a_time:
            self._number += 1
            outcome, answer = Outcome(), self._answers.get(problem_id)
            repeated = answer is not None
            try:
                if answer is None:
                    outcome = self._solve(problem_id, statement)
                    answer = self._in_range(outcome)
                    self._answers[problem_id] = answer
            except Exception as error:  # whatever failed, the row needs an answer
                outcome.notes.append(f"failed: {named(error)}")
            if answer is None:
                answer = self._config.answer.fallback_answer
            how: How = "repeated" if repeated else _how(outcome)
            self._num_voted += how in ("solved", "best vote")
            self._log.write(
                Answered(
                    t=self._log.elapsed(),
                    number=self._number,
                    problem_id=problem_id,
                    answer=answer,
                    how=how,
                    took_s=round(time.monotonic() - began, 3),
                    lost_s=round(self._supervisor.lost_s - lost_before, 3),
                    degraded=outcome.notes + (outcome.solved.degraded if outcome.solved else []),
                )
            )
            self._on_answer()
            return answer

    def _solve(self, problem_id: str, statement: str) -> Outcome:
        row_ends = math.inf
        if self._number > 1:
            row_ends = time.monotonic() + _ROW_SHARE * self._row_limit_s
        self._wait_for_solver(row_ends)
        left = max(1, self._num_problems - len(self._answers))
        now = time.monotonic()
        budget_config = _within(self._config.budget, row_ends - now)
        share = even_share(now, self._run_deadline, left, budget_config)
        if self._first_share is None:
            self._first_share = share
        budget = plan(
            now,
            self._run_deadline,
            left,
            budget_config,
            self._prune,
            self._pace,
            self._first_share,
        )
        self._log.write(
            Asked(
                t=self._log.elapsed(),
                number=self._number,
                problem_id=problem_id,
                share_s=round(share, 3),
                allotted_s=round(budget.allotted_s, 3),
                launch=budget.launch,
                keep=budget.keep,
            )
        )
        if budget.allotted_s <= 0:
            return Outcome(notes=[budget.why])
        task = _task(problem_id, statement, self._number, budget)
        outcome = self._supervisor.solve(task, budget.deadline)
        if outcome.solved is not None:
            self._pace = self._pace.after(outcome.solved.taken)
        return outcome

    def _wait_for_solver(self, row_ends: float) -> None:
        """Wait for the model to be loaded, for `_LOADING_SHARE` of the time left at most."""
        now = time.monotonic()
        left_s = min(self._run_deadline, row_ends) - now
        ready = self._supervisor.wait_ready(now + _LOADING_SHARE * left_s)
        if self._first_share is None:
            self._log.write(Loaded(t=self._log.elapsed(), ready=ready))

    def _in_range(self, outcome: Outcome) -> int:
        answer = outcome.solved.answer if outcome.solved is not None else outcome.best
        limits = self._config.answer
        if answer is None or not limits.minimum <= answer <= limits.maximum:
            return limits.fallback_answer
        return answer


def _within(config: BudgetConfig, row_left_s: float) -> BudgetConfig:
    """The budget of a row: one at a time, its problem's limit what is left of the row, if that is less."""
    limit_s = (
        row_left_s if config.problem_limit_s is None else min(config.problem_limit_s, row_left_s)
    )
    changes: dict[str, object] = {"problems_at_once": 1}
    if limit_s != math.inf:
        changes["problem_limit_s"] = limit_s
    return config.model_copy(update=changes)


def _task(problem_id: str, statement: str, number: int, budget: ProblemBudget) -> Task:
    # The worker's deadline is a little earlier, so that its answer has arrived when ours is due.
    head_start = min(_HEAD_START_S, _HEAD_START_SHARE * budget.allotted_s)
    return Task(
        problem_id=problem_id,
        statement=statement,
        number=number,
        allotted_s=budget.allotted_s - head_start,
        reserve_s=budget.reserve_s,
        deadline=budget.deadline - head_start,
        launch=budget.launch,
        checks=budget.checks,
        why=budget.why,
    )


def _how(outcome: Outcome) -> How:
    if outcome.solved is not None:
        return "solved" if outcome.solved.num_votes else "fallback"
    return "best vote" if outcome.best is not None else "fallback"
