"""Lanes and vote bars of the live view."""

from __future__ import annotations

from solver.journal.events import Ended
from solver.runs.lanes import lane_strip, vote_bars
from solver.types import StopReason


def ended(index: int, reason: StopReason, answer: int | None = None) -> Ended:
    return Ended(
        problem_id="a", index=index, stop_reason=reason, num_sampled_tokens=9, answer=answer
    )


def test_a_sign_for_each_trajectory() -> None:
    ends = {
        1: ended(1, StopReason.MARK),
        2: ended(2, StopReason.PRUNED),
        3: ended(3, StopReason.ANSWERED, 17),
        4: ended(4, StopReason.ERROR),
    }
    strip = lane_strip(7, {1: 40, 2: 40, 3: 90, 5: 100, 6: 1}, ends, max_tokens=100)
    assert strip.plain == "·▄×●○█▁"


def test_bars_of_the_best_answers() -> None:
    assert vote_bars({}).plain == ""
    assert vote_bars({5: 1, 17: 3}).plain == "17 ━━━ 3  5 ━ 1"
    many = vote_bars({answer: 100 - answer for answer in range(9)}).plain
    assert many.count("━") <= 4 * 12
    assert [int(word) for word in many.split()[::3]] == [0, 1, 2, 3]
