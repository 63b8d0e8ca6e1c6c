"""Lanes and vote bars of the live view."""

from __future__ import annotations

from solver.journal.history import TrajectoryHistory
from solver.runs.lanes import lane_strip, vote_bars
from solver.types import StopReason


def one(
    index: int, tokens: int, reason: StopReason | None = None, answer: int | None = None
) -> TrajectoryHistory:
    return TrajectoryHistory(index, 1, 0.0, num_tokens=tokens, stop_reason=reason, answer=answer)


def test_a_sign_for_each_trajectory() -> None:
    found = [
        one(1, 40, StopReason.MARK),
        one(2, 40, StopReason.PRUNED),
        one(3, 90, StopReason.ANSWERED, 17),
        one(4, 0, StopReason.ERROR),
        one(5, 100),
        one(6, 1),
    ]
    strip = lane_strip(7, {each.index: each for each in found}, max_tokens=100)
    assert strip.plain == "·▄×●○█▁"


def test_bars_of_the_best_answers() -> None:
    assert vote_bars({}).plain == ""
    assert vote_bars({5: 1, 17: 3}).plain == "17 ━━━ 3  5 ━ 1"
    many = vote_bars({answer: 100 - answer for answer in range(9)}).plain
    assert many.count("━") <= 4 * 12
    assert [int(word) for word in many.split()[::3]] == [0, 1, 2, 3]
