"""How much time one problem gets, and how many trajectories it pays for.

All times are seconds on the run's one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from solver.config import BudgetConfig, PruneConfig
from solver.policy.pace import Pace
from solver.types import Check, ProblemBudget

_WORTH_A_TRY = 0.5  # of what an answer takes: with less time than that nothing is begun
_SURE = 1.5  # times what is expected: what problems side by side are given, for they would be late together


def even_share(
    now: float,
    run_deadline: float | None,
    problems_left: int,
    config: BudgetConfig,
    engines: int = 1,
) -> float:
    """Time left for each problem left, were it shared out evenly: seconds >= 0, or infinity.

        (run_deadline - closing_s - now) * min(engines * problems_at_once, problems_left) / problems_left

    `engines` is how many work side by side. Raises ValueError if `problems_left` is below 1.
    """
    return _share(now, run_deadline, problems_left, config, 0.0, engines).seconds


def allot(
    now: float,
    run_deadline: float | None,
    problems_left: int,
    config: BudgetConfig,
    first_share: float = 0.0,
    least_s: float = 0.0,
    engines: int = 1,
) -> ProblemBudget:
    """The budget of the next problem; without any limit, one whose deadline is infinite.

    With T the time left, `least_s` what one answer takes, `first_share` the even share at the start of
    the run and `at_once = engines * problems_at_once`,

        served   = min(problems_left, max(1, T * min(at_once, problems_left) / least_s))
        rounds   = served / min(at_once, served)
        share    = T / rounds
        kept     = min(share, floor * max(share, first_share))      for each later round
        allotted = min(cap * share, share + (rounds - 1) * (share - kept), problem_limit_s)
        reserve  = min(answer_reserve_s, answer_share * allotted)

    So nobody gets less than an even share, and time that a problem leaves unused goes to the ones
    after it. Where an even share would not pay for one answer, as many problems are served as can be, and
    those that come when time is over get nothing: with less than half of `least_s` left, or with no time
    left, all is 0 and the deadline is now. `first_share` makes `floor` a promise: the share of now shrinks
    as hard problems take more than theirs, the share at the start does not. Raises ValueError if
    `problems_left` is below 1.
    """
    left_s, share, _, rounds = _share(now, run_deadline, problems_left, config, least_s, engines)
    limit = math.inf if config.problem_limit_s is None else config.problem_limit_s
    if run_deadline is None or math.isinf(left_s):
        allotted, deadline = limit, now + limit
    elif left_s < _WORTH_A_TRY * least_s:
        allotted, deadline = 0.0, now
    else:
        kept = min(share, config.floor * max(share, first_share))
        spare = share + (rounds - 1) * (share - kept)
        allotted = min(config.cap * share, spare, limit)
        # Rounding must not carry a deadline past the end of the run, nor before now.
        deadline = max(now, min(now + allotted, run_deadline - config.closing_s))
    reserve = min(config.answer_reserve_s, config.answer_share * allotted)
    return ProblemBudget(allotted_s=allotted, reserve_s=reserve, deadline=deadline)


def plan(
    now: float,
    run_deadline: float | None,
    problems_left: int,
    config: BudgetConfig,
    prune: PruneConfig,
    pace: Pace,
    first_share: float = 0.0,
    engines: int = 1,
    *,
    spread: bool = False,
) -> ProblemBudget:
    """The budget of the next problem, with as many trajectories as an even share pays for at this pace.

    Launch and what each check keeps shrink together, down to one; `why` says so, and why nothing is
    begun. Without a limit, and as long as nothing is known of the pace, they are those of `prune`.
    Problems share one engine, by which the pace is reckoned, with those that are under way in the same
    one only.

    With `spread`, problems that launch fewer go on side by side where that pays for more: the engine keeps
    the streams of `problems_at_once` whole launches, which cost it little more than a few. Then more than
    one trajectory is launched only if all problems left can have an answer, and where not even one each can
    be paid for, only so many go on at once as will surely be done in time.
    """
    usual = config.problems_at_once
    widest = usual * prune.launch if spread else usual
    limit_s = math.inf if config.problem_limit_s is None else config.problem_limit_s

    def offer(launch: int, together: int) -> _Offer:
        shared = config.model_copy(update={"problems_at_once": together})
        at_once = min(together, math.ceil(problems_left / engines))
        least_s = _with_reserve(pace.least_s(at_once), config)
        checks = shrunk(launch, prune)
        budget = allot(now, run_deadline, problems_left, shared, first_share, least_s, engines)
        return _Offer(
            budget=replace(budget, launch=launch, checks=checks, at_once=at_once),
            share=_share(now, run_deadline, problems_left, shared, least_s, engines),
            least_s=least_s,
            needed_s=_with_reserve(pace.seconds(launch, checks, at_once), config),
        )

    def pays(one: _Offer) -> bool:
        sure = _SURE if one.budget.at_once > usual else 1.0
        if one.budget.launch == 1:
            return sure * one.least_s <= min(one.share.left_s, limit_s)
        all_served = one.share.served >= problems_left
        in_time = one.needed_s <= one.time_s and sure * one.needed_s <= one.budget.allotted_s
        return in_time and (all_served or not spread)

    several = (
        (n, m)
        for n in range(prune.launch, 1, -1)
        for m in dict.fromkeys((max(usual, widest // n), usual))
    )
    one_each = ((1, m) for m in range(widest, usual - 1, -1))
    offers = (offer(n, m) for n, m in chain(several, one_each))
    budget, share, least_s, _ = next(filter(pays, offers), None) or offer(1, usual)
    if budget.allotted_s <= 0:
        return replace(budget, launch=None, checks=None, why=_no_time(share.left_s, least_s))
    assert budget.launch is not None and budget.checks is not None
    if budget.launch == prune.launch:
        return budget
    most = offer(prune.launch, usual)
    why = _why_shrunk(budget.launch, budget.checks, prune, most.needed_s, most.time_s)
    return replace(budget, why=why)


def shrunk(launch: int, prune: PruneConfig) -> tuple[Check, ...]:
    """The checks of `prune` for `launch` trajectories: each keeps the same share, from 1 to `launch`."""
    return tuple(
        Check(mark, max(1, math.floor(keep * launch / prune.launch + 0.5)))
        for mark, keep in prune.checks
    )


class _Share(NamedTuple):
    """The time left, an even share of it, how many problems get one, and in how many rounds."""

    left_s: float
    seconds: float
    served: float
    rounds: float


class _Offer(NamedTuple):
    """What a number of trajectories gets: its budget, and what one answer and all of them should take."""

    budget: ProblemBudget
    share: _Share
    least_s: float
    needed_s: float

    @property
    def time_s(self) -> float:
        """What may be counted on."""
        return min(self.share.seconds, self.budget.allotted_s)


def _share(
    now: float,
    run_deadline: float | None,
    problems_left: int,
    config: BudgetConfig,
    least_s: float,
    engines: int,
) -> _Share:
    if problems_left < 1:
        raise ValueError(f"problems_left must be at least 1, not {problems_left}")
    if run_deadline is None or math.isinf(run_deadline):
        return _Share(math.inf, math.inf, problems_left, 1.0)
    left_s = max(0.0, run_deadline - config.closing_s - now)
    at_once: float = min(engines * config.problems_at_once, problems_left)
    served: float = problems_left
    if problems_left * least_s > left_s * at_once:
        served = max(1.0, left_s * at_once / least_s)
    rounds = served / min(at_once, served)
    return _Share(left_s, left_s / rounds, served, rounds)


def _with_reserve(seconds: float, config: BudgetConfig) -> float:
    """The time that must be allotted so that `seconds` of it come before its reserve."""
    return min(seconds / (1 - config.answer_share), seconds + config.answer_reserve_s)


def _no_time(left_s: float, least_s: float) -> str:
    if left_s <= 0:
        return "no time: not started"
    return f"no time: an answer takes {_text(least_s)}, {_text(left_s)} are left"


def _why_shrunk(
    launch: int, checks: Sequence[Check], prune: PruneConfig, needed_s: float, time_s: float
) -> str:
    kept, of = (", then ".join(str(keep) for _, keep in each) for each in (checks, prune.checks))
    return (
        f"time was short: {launch} of {prune.launch} launched, {kept} of {of} kept, as all"
        f" would take {_text(needed_s)} and {_text(time_s)} are there"
    )


def _text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.0f} s"
