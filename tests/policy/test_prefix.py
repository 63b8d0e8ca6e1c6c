"""Cut at any mark, a finished trajectory is what stood there: nothing executed, nothing forced."""

from __future__ import annotations

import pytest

from sandbox.result import ExecutionResult, ExecutionStatus
from solver.policy.prefix import own_tokens, prefix_at
from solver.types import StopReason, Trajectory, Turn

RAN = ExecutionResult(status=ExecutionStatus.OK, stdout="6")


def trajectory(stop: StopReason = StopReason.ANSWERED) -> Trajectory:
    turns = [
        Turn([1, 2, 3], [-0.1] * 3, [1.0] * 3, [0.5] * 3, "print(6)", RAN, (90, 91)),
        Turn([4, 5], [-0.2] * 2, [2.0] * 2, [0.25] * 2),
    ]
    return Trajectory("p", 3, 7, (8, 9), turns, stop, 6)


def forced(stop: StopReason = StopReason.MAX_TOKENS) -> Trajectory:
    cut = trajectory(stop)
    cut.turns[-1].appended_token_ids = (70, 71)
    cut.turns.append(Turn([6, 6, 6], [-0.3] * 3))
    return cut


@pytest.mark.parametrize(
    ("mark", "ids", "turns"),
    [
        (1, [8, 9, 1], 1),
        (3, [8, 9, 1, 2, 3], 1),  # the call is complete, and not executed yet
        (4, [8, 9, 1, 2, 3, 90, 91, 4], 2),
    ],
)
def test_cuts(mark: int, ids: list[int], turns: int) -> None:
    prefix = prefix_at(trajectory(), mark)
    assert prefix is not None
    assert prefix.token_ids == ids and len(prefix.turns) == turns
    assert prefix.num_sampled_tokens == mark == len(prefix.logprobs) == len(prefix.confidences)
    assert (prefix.stop_reason, prefix.answer, prefix.index) == (StopReason.MARK, None, 3)
    assert prefix.turns[-1].execution is None and not prefix.turns[-1].appended_token_ids


def test_the_whole_stays_whole() -> None:
    whole = trajectory()
    prefix_at(whole, 2)
    assert whole == trajectory()


def test_who_ended_before_does_not_wait() -> None:
    assert prefix_at(trajectory(), 5) is None  # ended with its fifth token
    assert prefix_at(trajectory(), 6) is None
    assert prefix_at(trajectory(StopReason.MAX_TURNS), 5) is not None  # the mark came first


def test_forced_tokens_reach_no_mark() -> None:
    assert own_tokens(forced()) == 5
    prefix = prefix_at(forced(), 5)
    assert prefix is not None and prefix.token_ids == [8, 9, 1, 2, 3, 90, 91, 4, 5]
    assert prefix_at(forced(), 6) is None
