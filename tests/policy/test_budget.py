import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.config import BudgetConfig, PruneConfig
from solver.policy.budget import allot, even_share, plan, shrunk
from solver.policy.pace import Pace, Steps, Taken
from solver.types import Check, ProblemBudget
from tests.policy.test_pace import paces

times = st.floats(0, 1e5)
counts = st.integers(1, 60)
configs = st.builds(
    BudgetConfig,
    problem_limit_s=st.none() | st.floats(0.1, 1e4),
    cap=st.floats(1, 6),
    floor=st.floats(0, 1),
    answer_share=st.floats(0.01, 0.9),
    answer_reserve_s=st.floats(0.1, 60),
    closing_s=st.floats(0, 10),
)
PLAIN = BudgetConfig(closing_s=1.0)


def test_the_shares() -> None:
    # 100 s for 10 problems: 10 s each, a cap of 25 s, and 5 s kept for each of the 9 others.
    budget = allot(0.0, 101.0, 10, PLAIN)
    assert (budget.allotted_s, budget.deadline) == (25.0, 25.0)
    assert budget.reserve_s == pytest.approx(3.75)
    assert budget.soft_deadline == pytest.approx(21.25)


def test_problems_at_once_share_the_clock() -> None:
    side_by_side = PLAIN.model_copy(update={"problems_at_once": 4})
    assert even_share(0.0, 101.0, 10, side_by_side) == 40.0
    assert even_share(0.0, 101.0, 2, side_by_side) == 100.0  # no more than there is
    assert allot(0.0, 101.0, 2, side_by_side).deadline == 100.0


def test_the_floor_binds_before_the_cap() -> None:
    assert allot(0.0, 21.0, 2, PLAIN).allotted_s == 15.0
    assert allot(0.0, 21.0, 2, PLAIN.model_copy(update={"floor": 1.0})).allotted_s == 10.0


def test_the_reserve_has_an_upper_bound() -> None:
    assert allot(0.0, 10_001.0, 10, PLAIN).reserve_s == 10.0


def test_problem_limit() -> None:
    config = PLAIN.model_copy(update={"problem_limit_s": 4.0})
    assert allot(0.0, 101.0, 10, config).deadline == 4.0
    assert allot(7.0, None, 10, config).deadline == 11.0


def test_without_limits_the_deadline_is_infinite() -> None:
    for run_deadline in (None, math.inf):
        budget = allot(5.0, run_deadline, 3, PLAIN)
        assert budget.allotted_s == budget.deadline == budget.soft_deadline == math.inf
        assert budget.reserve_s == 10.0


@given(times, counts, configs)
def test_pitfall_11_no_time_left_is_no_time(now: float, left: int, config: BudgetConfig) -> None:
    for run_deadline in (now - 5.0, now, now + config.closing_s):
        budget = allot(now, run_deadline, left, config)
        assert budget.allotted_s == pytest.approx(0, abs=1e-9)
        assert budget.deadline == pytest.approx(now, abs=1e-9)
        assert budget.deadline >= now
        assert budget.reserve_s <= budget.allotted_s


@pytest.mark.parametrize("left", [0, -1])
def test_problems_left_must_be_positive(left: int) -> None:
    with pytest.raises(ValueError, match="problems_left"):
        allot(0.0, 10.0, left, PLAIN)


@given(times, st.floats(0.001, 1e5), configs)
def test_the_last_problem_gets_all_that_is_left(
    now: float, left_s: float, config: BudgetConfig
) -> None:
    budget = allot(now, now + config.closing_s + left_s, 1, config)
    limit = math.inf if config.problem_limit_s is None else config.problem_limit_s
    assert budget.allotted_s == pytest.approx(min(left_s, limit), abs=1e-6)


@given(times, times, counts, configs, times)
def test_pitfall_11_deadlines_stay_inside_the_run(
    now: float, length: float, left: int, config: BudgetConfig, first_share: float
) -> None:
    budget = allot(now, now + length, left, config, first_share)
    assert budget.allotted_s >= 0
    assert now <= budget.deadline <= max(now, now + length - config.closing_s)
    assert budget.deadline <= now + budget.allotted_s
    assert 0 <= budget.reserve_s <= min(budget.allotted_s, config.answer_reserve_s)


@given(times, times, times, counts, configs, times)
def test_more_time_left_never_means_less_time(
    now: float, length: float, more: float, left: int, config: BudgetConfig, first_share: float
) -> None:
    short = allot(now, now + length, left, config, first_share).allotted_s
    long = allot(now, now + length + more, left, config, first_share).allotted_s
    assert long >= short * (1 - 1e-9) - 1e-9


@given(st.floats(10, 1e5), st.lists(st.floats(0, 1), min_size=1, max_size=60), configs)
def test_pitfall_11_no_sequence_of_problems_overspends(
    length: float, used: list[float], config: BudgetConfig
) -> None:
    now, first_share = 3.0, even_share(3.0, 3.0 + length, len(used), config)
    for done, fraction in enumerate(used):
        budget = allot(now, 3.0 + length, len(used) - done, config, first_share)
        now += fraction * (budget.deadline - now)
        assert now <= max(3.0, 3.0 + length - config.closing_s) + 1e-9


@given(st.floats(10, 1e5), st.integers(2, 60), st.floats(0, 0.9))
def test_unused_time_goes_to_the_problems_after(length: float, left: int, used: float) -> None:
    run_deadline = length + PLAIN.closing_s
    first = allot(0.0, run_deadline, left, PLAIN)
    after_all = allot(first.deadline, run_deadline, left - 1, PLAIN)
    after_some = allot(used * first.deadline, run_deadline, left - 1, PLAIN)
    assert after_some.allotted_s > after_all.allotted_s


@given(st.integers(1, 60), st.floats(0, 1), st.floats(1, 6))
def test_the_floor_of_the_first_share_is_a_promise(count: int, floor: float, cap: float) -> None:
    config = BudgetConfig(floor=floor, cap=cap)
    run_deadline = 1000.0 + config.closing_s
    first_share = even_share(0.0, run_deadline, count, config)
    now = 0.0
    for left in range(count, 0, -1):
        budget = allot(now, run_deadline, left, config, first_share)
        assert budget.allotted_s >= floor * first_share - 1e-6
        now = budget.deadline


def test_without_the_first_share_hard_problems_starve_the_last_ones() -> None:
    # Why `first_share` exists: 50 problems that all use up what they get.
    def last_ten(first_share: float) -> float:
        now = 0.0
        for left in range(50, 10, -1):
            now = allot(now, 5001.0, left, PLAIN, first_share).deadline
        return 5000.0 - now

    assert last_ten(0.0) < 100.0  # of 5000 s
    assert last_ten(100.0) >= 499.0


prunes = st.builds(
    lambda launch, keep, mark: PruneConfig(launch=launch, keep=min(launch, keep), mark=mark),
    st.integers(1, 32), st.integers(1, 32), st.integers(1, 200),
)  # fmt: skip
limited = configs.flatmap(
    lambda config: st.integers(1, 4).map(
        lambda at_once: config.model_copy(update={"problems_at_once": at_once})
    )
)
HALVING = PruneConfig(launch=24, stages=(Check(40, 12), Check(60, 3)), mark=40, keep=3)
THREE_TO_ONE = PruneConfig(launch=24, keep=8, mark=40)
# 40 tokens with 24 streams, a check, 60 tokens with 8: 1.04 + 0.24 + 0.6 s; with one of each 0.3 s
KNOWN = Pace(recent=(Taken(Steps.of(320, 8, 3.2) + Steps.of(100, 2, 0.4), (100,), check_s=0.01),))
NO_RESERVE = PLAIN.model_copy(update={"answer_reserve_s": 1e-9})


def planned(left_s: float, problems_left: int, pace: Pace = KNOWN) -> ProblemBudget:
    return plan(5.0, 5.0 + left_s + 1.0, problems_left, NO_RESERVE, THREE_TO_ONE, pace)


def test_with_enough_time_everything_is_launched() -> None:
    budget = planned(20.0, 10)
    assert (budget.launch, budget.keep, budget.why) == (24, 8, "")
    assert budget.allotted_s == 5.0


def test_launch_and_keep_shrink_together_into_an_even_share() -> None:
    budget = planned(10.0, 10)
    assert (budget.launch, budget.keep) == (11, 4)
    assert KNOWN.seconds(11, [Check(40, 4)]) <= 1.0 < KNOWN.seconds(12, [Check(40, 4)])
    assert budget.why == (
        "time was short: 11 of 24 launched, 4 of 8 kept, as all would take 1.88 s and 1.00 s are there"
    )


def test_every_check_keeps_its_share_of_what_is_launched() -> None:
    assert shrunk(24, HALVING) == HALVING.checks
    assert shrunk(11, HALVING) == ((40, 6), (60, 1))
    assert shrunk(1, HALVING) == ((40, 1), (60, 1))
    budget = plan(0.0, 11.0, 10, PLAIN, HALVING, KNOWN)
    assert budget.launch is not None and budget.launch < 24
    assert budget.checks == shrunk(budget.launch, HALVING)
    assert f"{budget.checks[0].keep}, then {budget.checks[1].keep} of 12, then 3 kept" in budget.why


def test_below_the_least_as_many_problems_as_can_be_solved_are_served() -> None:
    # A tenth of a second for each of 30 problems: ten of them can have an answer.
    now, served = 0.0, 0
    for left in range(30, 0, -1):
        budget = plan(now, 4.0, left, NO_RESERVE, THREE_TO_ONE, KNOWN)
        if budget.allotted_s <= 0:
            break
        assert (budget.launch, budget.keep) == (1, 1)
        assert budget.allotted_s >= 0.3 - 1e-9
        now, served = now + 0.3, served + 1
    assert served == 10
    assert budget.why.startswith("no time")
    assert planned(0.1, 3).why == "no time: an answer takes 0.30 s, 0.10 s are left"
    assert planned(0.2, 3).allotted_s == pytest.approx(0.2), "worth a try"


def spread(left_s: float, problems_left: int, pace: Pace = KNOWN) -> ProblemBudget:
    end = 5.0 + left_s + 1.0
    return plan(5.0, end, problems_left, NO_RESERVE, THREE_TO_ONE, pace, spread=True)


def test_problems_that_launch_fewer_go_on_side_by_side() -> None:
    """The engine keeps 24 streams, and 30 problems of 1.88 s each have 20 s."""
    alone = planned(20.0, 30)
    budget = spread(20.0, 30)
    assert alone.launch is not None and budget.launch is not None
    assert budget.at_once == 24 // budget.launch > 1
    assert budget.launch > alone.launch, "beside others more can be launched in the same time"
    checks = shrunk(budget.launch, THREE_TO_ONE)
    assert budget.checks == checks
    assert KNOWN.seconds(budget.launch, checks, budget.at_once) <= 20.0 * budget.at_once / 30
    assert budget.why.startswith(f"time was short: {budget.launch} of 24 launched")
    assert spread(60.0, 30) == planned(60.0, 30), "with enough time one follows on another"


def test_side_by_side_all_have_an_answer_before_anybody_has_two_trajectories() -> None:
    free = Pace(recent=(Taken(Steps.of(320, 8, 3.2), (100,)),))  # a stream more costs nothing
    assert [planned(left_s, 30, free).launch for left_s in (2.1, 10.1)] == [24, 24]
    assert [spread(left_s, 30, free).launch for left_s in (2.1, 10.1)] == [1, 8]
    assert spread(2.1, 30, free).at_once == 24


def test_side_by_side_only_so_many_begin_as_will_surely_be_done() -> None:
    """One of 24 takes 100 * (1 + 24) ms: with half as much again, it does not fit into 3.1 s."""
    costly = Pace(recent=(Taken(Steps.of(1, 1, 0.002) + Steps.of(1, 3, 0.004), (100,)),))
    assert costly.least_s(24) == pytest.approx(2.5)
    assert spread(3.8, 30, costly).at_once == 24
    budget = spread(3.1, 30, costly)
    assert (budget.launch, budget.at_once) == (1, 19)
    assert 1.5 * costly.least_s(19) <= 3.1 < 1.5 * costly.least_s(20)
    assert 2.0 <= budget.allotted_s <= 3.1
    assert spread(0.1, 30, costly).at_once == 1
    assert spread(0.05, 30, costly).why.startswith("no time: an answer takes 0.20 s")


@given(times, times, counts, limited, prunes, paces, times)
def test_side_by_side_a_plan_stays_inside_the_time_left(
    now: float, length: float, left: int, config: BudgetConfig, prune: PruneConfig, pace: Pace,
    first: float,
) -> None:  # fmt: skip
    budget = plan(now, now + length, left, config, prune, pace, first, spread=True)
    assert now <= budget.deadline <= max(now, now + length - config.closing_s)
    assert (budget.launch is None) == (budget.allotted_s == 0)
    assert 1 <= budget.at_once <= min(left, config.problems_at_once * prune.launch)
    if budget.launch is not None:
        streams = budget.launch * min(budget.at_once, config.problems_at_once * prune.launch)
        assert streams <= config.problems_at_once * prune.launch
        assert budget.part * budget.at_once == 1


def test_as_long_as_nothing_is_known_time_is_shared_evenly() -> None:
    budget = planned(0.1, 10, Pace())
    assert (budget.launch, budget.keep, budget.why) == (24, 8, "")
    assert budget.allotted_s == pytest.approx(0.025)


def test_without_a_limit_nothing_shrinks() -> None:
    budget = plan(5.0, None, 3, PLAIN, THREE_TO_ONE, KNOWN)
    assert (budget.launch, budget.keep, budget.why) == (24, 8, "")


def test_a_limit_of_the_problem_shrinks_as_well() -> None:
    config = NO_RESERVE.model_copy(update={"problem_limit_s": 1.0})
    assert plan(0.0, None, 3, config, THREE_TO_ONE, KNOWN).launch == 11
    beside = plan(0.0, None, 3, config, THREE_TO_ONE, KNOWN, spread=True)
    assert beside.launch == 11 and beside.at_once == 1, "others beside it would only slow it down"
    tight = config.model_copy(update={"problem_limit_s": 0.35})
    assert plan(0.0, None, 30, tight, THREE_TO_ONE, KNOWN, spread=True).launch == 1
    assert (
        KNOWN.least_s(plan(0.0, None, 30, tight, THREE_TO_ONE, KNOWN, spread=True).at_once) <= 0.35
    )


@given(times, times, counts, limited, prunes, paces, times)
def test_a_plan_stays_inside_the_time_left(
    now: float,
    length: float,
    left: int,
    config: BudgetConfig,
    prune: PruneConfig,
    pace: Pace,
    first: float,
) -> None:
    budget = plan(now, now + length, left, config, prune, pace, first)
    time_left = max(0.0, length - config.closing_s)
    assert 0 <= budget.allotted_s <= time_left * (1 + 1e-9) + 1e-6
    assert now <= budget.deadline <= max(now, now + length - config.closing_s)
    assert 0 <= budget.reserve_s <= budget.allotted_s
    if budget.launch is None:
        assert budget.allotted_s == 0 and budget.keep is None and budget.why.startswith("no time")
    else:
        assert budget.keep is not None
        assert prune.launch >= budget.launch >= budget.keep >= 1
        assert budget.keep <= prune.keep
        assert (budget.launch == prune.launch) == (budget.why == "")


@given(times, times, times, counts, limited, prunes, paces, times)
def test_more_time_never_means_fewer_trajectories_or_less_time(
    now: float, length: float, more: float, left: int, config: BudgetConfig, prune: PruneConfig,
    pace: Pace, first: float,
) -> None:  # fmt: skip
    short = plan(now, now + length, left, config, prune, pace, first)
    long = plan(now, now + length + more, left, config, prune, pace, first)
    assert long.allotted_s >= short.allotted_s * (1 - 1e-9) - 1e-6
    # Rounding may differ where the time is what is needed to the last digit.
    slack = plan(now, now + (length + more) * (1 + 1e-9) + 1e-6, left, config, prune, pace, first)
    assert (slack.launch or 0) >= (short.launch or 0)
    assert (slack.keep or 0) >= (short.keep or 0)


@given(
    st.floats(1, 1e4), st.lists(st.floats(0, 1), min_size=1, max_size=60), limited, prunes, paces
)
def test_no_sequence_of_plans_overspends(
    length: float, used: list[float], config: BudgetConfig, prune: PruneConfig, pace: Pace
) -> None:
    now = 3.0
    for done, fraction in enumerate(used):
        budget = plan(now, 3.0 + length, len(used) - done, config, prune, pace)
        now += fraction * (budget.deadline - now)
        assert now <= max(3.0, 3.0 + length - config.closing_s) + 1e-9


def test_rounds_of_problems_at_once_keep_the_floor() -> None:
    # Seven problems, three at once: the first round leaves half a share for each round after it.
    side_by_side = PLAIN.model_copy(update={"problems_at_once": 3})
    first = allot(0.0, 31.0, 7, side_by_side)
    assert first.allotted_s == pytest.approx(30 * 3 / 7 * (1 + (7 / 3 - 1) / 2))
    assert allot(first.deadline, 31.0, 4, side_by_side).allotted_s > 5.0


def test_engines_side_by_side_share_the_time_out() -> None:
    """Twice the engines: twice the even share, as long as there are problems for all."""
    assert even_share(0.0, 101.0, 10, PLAIN, 2) == 2 * even_share(0.0, 101.0, 10, PLAIN)
    assert even_share(0.0, 101.0, 3, PLAIN, 8) == even_share(0.0, 101.0, 1, PLAIN)
    at_once = PLAIN.model_copy(update={"problems_at_once": 2})
    assert allot(0.0, 101.0, 10, PLAIN, engines=2) == allot(0.0, 101.0, 10, at_once)


def test_the_pace_of_a_problem_does_not_depend_on_other_engines() -> None:
    """With four engines for four problems, each has one to itself: it pays for as many as alone."""
    prune = PruneConfig(launch=8, keep=8, mark=10)
    ended = (100,)
    pace = Pace(recent=(Taken(Steps.of(100, 1, 1.0) + Steps.of(100, 8, 8.0), ended),))
    alone = plan(0.0, 6.0, 1, PLAIN, prune, pace)
    assert plan(0.0, 6.0, 4, PLAIN, prune, pace, engines=4).launch == alone.launch
    assert 1 <= (alone.launch or 0) < 8
