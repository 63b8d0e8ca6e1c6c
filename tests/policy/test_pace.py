"""What problems take: fitted from requests, averaged over the last problems, less for fewer trajectories."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.config import PaceConfig, PruneConfig
from solver.policy.pace import RECENT, Pace, Steps, Taken, taken_by
from solver.types import Check

lengths = st.lists(st.integers(1, 5000), max_size=3).map(tuple)
requests = st.builds(Steps.of, st.floats(1, 500), st.floats(1, 64), st.floats(0, 100))
takens = st.builds(
    Taken,
    steps=st.lists(requests, max_size=3).map(lambda all_: sum(all_, Steps())),
    ended=lengths,
    stopped=lengths,
    cut=lengths,
    silent=lengths,
    tool_s=st.floats(0, 50),
    check_s=st.floats(0, 2),
    other_s=st.floats(0, 20),
)
paces = st.builds(Pace, takens, st.lists(takens, max_size=2).map(tuple))


def a_problem(**changes: object) -> Taken:
    fields: dict[str, object] = {
        "steps": Steps.of(320, 8, 320 * 0.010) + Steps.of(100, 2, 100 * 0.004),
        "ended": [100], "stopped": [], "cut": [], "silent": [],"tools_s": [0.5], "check_s": 0.01,
        "elapsed_s": 0.0, "launch": 8, "checks": [Check(40, 2)], "most": 400, **changes,
    }  # fmt: skip
    return taken_by(**fields)  # type: ignore[arg-type]


def test_the_fit_finds_the_two_parts_of_a_step() -> None:
    steps = sum(
        (Steps.of(n, k, n * (0.002 + 0.001 * k)) for n, k in ((7, 1), (30, 8), (9, 24))), Steps()
    )
    assert steps.fit() == pytest.approx((0.002, 0.001))
    assert Steps().fit() == (0.0, 0.0)


def test_where_streams_never_differed_fewer_are_no_faster() -> None:
    assert (Steps.of(10, 8, 1.0) + Steps.of(30, 8, 3.0)).fit() == (pytest.approx(0.1), 0.0)


@given(st.lists(requests, max_size=8))
def test_no_part_of_a_step_is_negative(parts: list[Steps]) -> None:
    base, slope = sum(parts, Steps()).fit()
    assert base >= 0 and slope >= 0


def test_a_problem_is_the_sum_of_its_stages() -> None:
    # 40 tokens at 8 streams, a check of 8, 60 tokens at 2 streams, a tool: s(k) = 2 ms + 1 ms * k
    pace = Pace(recent=(a_problem(),))
    assert pace.seconds(8, [Check(40, 2)]) == pytest.approx(0.4 + 0.08 + 0.24 + 0.5)
    assert pace.seconds(2, [Check(40, 2)]) == pytest.approx(0.4 + 0.5), "without a check"
    assert pace.least_s() == pytest.approx(0.3 + 0.5)
    assert pace.seconds(1, [Check(40, 1)]) == pytest.approx(0.3 + 0.5)
    assert pace.seconds(1, [Check(40, 1)], at_once=3) == pytest.approx(0.5 + 0.5), (
        "three share the engine"
    )


def test_several_checks_are_reckoned_one_after_the_other() -> None:
    # 40 tokens at 8 streams, a check of 8, 20 at 4, a check of 4, 40 at 2, a tool
    pace = Pace(recent=(a_problem(),))
    stages = [Check(40, 4), Check(60, 2)]
    assert pace.seconds(8, stages) == pytest.approx(0.4 + 0.08 + 0.12 + 0.04 + 0.16 + 0.5)
    beyond = [Check(40, 4), Check(200, 2)]
    assert pace.seconds(8, beyond) == pytest.approx(0.4 + 0.08 + 0.36 + 0.5), "none gets so far"


def test_what_the_stages_do_not_explain_is_counted_as_well() -> None:
    assert a_problem(elapsed_s=3.0).other_s == pytest.approx(3.0 - 1.22)
    assert a_problem(elapsed_s=0.1).other_s == 0.0
    assert a_problem(elapsed_s=3.0, cut=[90]).other_s == 0.0, "the deadline says nothing of it"


def test_the_longest_of_more_is_longer() -> None:
    pace = Pace(recent=(a_problem(ended=[10, 20, 30, 40]),))
    per_token = pace.seconds(2, [Check(1, 2)]) - pace.seconds(2, [Check(1, 1)])
    assert per_token > 0
    one, many = (Pace(recent=(Taken(Steps.of(1, 1, 1.0), (10, 20, 30, 40)),)).seconds(k, [Check(1, k)])
                 for k in (1, 1000))  # fmt: skip
    assert (one, many) == (pytest.approx(25.0), pytest.approx(40.0))


def test_the_deadline_cuts_half_way_and_says_nothing_of_the_least_if_there_is_an_answer() -> None:
    cut = a_problem(ended=[], cut=[50, 390])
    assert cut.cut == (100, 400), "no longer than a trajectory may be"
    assert Pace(recent=(cut,)).seconds(8, [Check(40, 2)]) > 0
    assert Pace(recent=(cut,)).least_s() == 0.0


def test_where_a_forced_answer_was_none_an_answer_takes_longer() -> None:
    silent = Pace(recent=(a_problem(ended=[], silent=[50, 50]),))
    assert silent.least_s() == pytest.approx(0.3 + 0.5)


def test_only_the_last_problems_count_and_the_prior_only_before_them() -> None:
    config = PaceConfig(step_s=0.002, stream_s=0.001, tokens=50, tool_s=0.25)
    pace = Pace.expected(config, PruneConfig(launch=8, keep=2, mark=40))
    assert pace.least_s() == pytest.approx(50 * 0.003 + 0.25)
    for number in range(3 * RECENT):
        pace = pace.after(a_problem(ended=[1000 if number < 2 * RECENT else 100]))
    assert len(pace.recent) == RECENT
    assert pace.least_s() == pytest.approx(0.8)


def test_nothing_known_is_nothing_taken() -> None:
    pace = Pace.expected(PaceConfig(), PruneConfig())
    assert pace.seconds(24, [Check(32, 8)]) == pace.least_s() == 0.0
    assert pace.after(None) == pace
    assert pace.after(Taken(Steps.of(1, 1, 1))).seconds(24, [Check(32, 8)]) == 0.0


@given(paces, st.integers(1, 300), st.integers(1, 4))
def test_more_trajectories_never_take_less(pace: Pace, mark: int, at_once: int) -> None:
    for launch, keep in product((1, 2, 7, 23), (1, 2, 7, 23)):
        if keep > launch:
            continue
        seconds = pace.seconds(launch, [Check(mark, keep)], at_once)
        tolerance = 1e-9 * (1 + seconds)
        assert seconds >= 0
        assert pace.seconds(launch + 1, [Check(mark, keep)], at_once) >= seconds - tolerance
        if keep + 1 < launch:
            assert pace.seconds(launch, [Check(mark, keep + 1)], at_once) >= seconds - tolerance
