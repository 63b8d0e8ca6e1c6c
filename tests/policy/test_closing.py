"""What the end of a run takes is what writing took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.policy.closing import Closing

times = st.lists(st.floats(0, 10), max_size=12)


def test_before_an_answer_was_written_it_is_what_is_expected() -> None:
    assert Closing(0.5).seconds(1000) == 0.5


def test_afterwards_it_is_a_line_for_each_problem_left_and_a_few_files() -> None:
    closing = Closing(0.5).after(0.01).after(0.03)
    assert closing.seconds(10) == pytest.approx(10 * 0.02 + 6 * 0.03 + 0.1)


def test_a_slow_disk_is_forgotten_once_it_is_quick_again() -> None:
    closing = Closing(0.5)
    for seconds in (3.0, *[0.001] * 8):
        closing = closing.after(seconds)
    assert closing.seconds(0) == pytest.approx(0.106)


@given(times, st.integers(0, 100))
def test_more_to_write_never_takes_less(seconds: list[float], left: int) -> None:
    closing = Closing(0.5)
    for one in seconds:
        closing = closing.after(one)
    assert 0 <= closing.seconds(left) <= closing.seconds(left + 1)
