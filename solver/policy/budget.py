"""How much time one problem gets. All times are seconds on the run's one monotonic clock."""

from __future__ import annotations

import math

from solver.config import BudgetConfig
from solver.types import ProblemBudget


def even_share(
    now: float, run_deadline: float | None, problems_left: int, config: BudgetConfig
) -> float:
    """Time left for each problem left, were it shared out evenly: seconds >= 0, or infinity.

        (run_deadline - closing_s - now) * min(problems_at_once, problems_left) / problems_left

    Raises ValueError if `problems_left` is below 1.
    """
    if problems_left < 1:
        raise ValueError(f"problems_left must be at least 1, not {problems_left}")
    if run_deadline is None:
        return math.inf
    at_once = min(config.problems_at_once, problems_left)
    return max(0.0, run_deadline - config.closing_s - now) * at_once / problems_left


def allot(
    now: float,
    run_deadline: float | None,
    problems_left: int,
    config: BudgetConfig,
    first_share: float = 0.0,
) -> ProblemBudget:
    """The budget of the next problem; without any limit, one whose deadline is infinite.

    With `share` the even share of now, and `first_share` the even share at the start of the run,

        kept     = min(share, floor * max(share, first_share))      for each other problem left
        allotted = min(cap * share, share + (problems_left - 1) * (share - kept), problem_limit_s)
        reserve  = min(answer_reserve_s, answer_share * allotted)

    So nobody gets less than an even share, and time that a problem leaves unused goes to the ones
    after it. `first_share` makes `floor` a promise: the share of now shrinks as hard problems take
    more than theirs, the share at the start does not. With no time left, all is 0 and the deadline
    is now. Raises ValueError if `problems_left` is below 1.
    """
    share = even_share(now, run_deadline, problems_left, config)
    limit = math.inf if config.problem_limit_s is None else config.problem_limit_s
    if run_deadline is None or math.isinf(share):
        allotted, deadline = limit, now + limit
    else:
        kept = min(share, config.floor * max(share, first_share))
        spare = share + (problems_left - 1) * (share - kept)
        allotted = min(config.cap * share, spare, limit)
        # Rounding must not carry a deadline past the end of the run, nor before now.
        deadline = max(now, min(now + allotted, run_deadline - config.closing_s))
    reserve = min(config.answer_reserve_s, config.answer_share * allotted)
    return ProblemBudget(allotted_s=allotted, reserve_s=reserve, deadline=deadline)
