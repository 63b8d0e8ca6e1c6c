"""Trajectories as they stood at a mark: what the check saw, or would have seen at another mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from solver.types import NO_EVIDENCE, StopReason, Trajectory, Turn


def prefix_at(trajectory: Trajectory, mark: int) -> Trajectory | None:
    """The trajectory at `mark` sampled tokens; None if it had come to its own end by then.

    It is what `TrajectoryRun.advance` leaves there: cut inside a turn or at its end, with no call of
    that turn executed.
    """
    own = own_tokens(trajectory)
    ended_there = own == mark and trajectory.stop_reason is StopReason.ANSWERED
    if own < mark or ended_there:
        return None
    return replace(
        trajectory,
        turns=cut(trajectory.turns, mark),
        stop_reason=StopReason.MARK,
        answer=None,
        error=None,
        evidence=NO_EVIDENCE,
    )


def cut(turns: Sequence[Turn], mark: int) -> list[Turn]:
    """The turns up to the first `mark` sampled tokens; the last one lacks what came after its ids."""
    kept: list[Turn] = []
    left = mark
    for turn in turns:
        part = Turn(
            turn.token_ids[:left],
            turn.logprobs[:left],
            turn.confidences[:left],
            turn.entropies[:left],
        )
        kept.append(part)
        left -= len(part.token_ids)
        if left == 0:
            break
        part.tool_call, part.execution = turn.tool_call, turn.execution
        part.appended_token_ids = turn.appended_token_ids
    return kept


def own_tokens(trajectory: Trajectory) -> int:
    """Tokens sampled before an answer was forced: what the mark counts."""
    total = 0
    for turn in trajectory.turns:
        total += len(turn.token_ids)
        if turn.execution is None and turn.appended_token_ids:  # the opening of a forced answer
            break
    return total
