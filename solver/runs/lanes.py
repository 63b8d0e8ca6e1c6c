"""One problem under way, drawn small for a terminal: a sign for each trajectory, a bar for each answer."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from solver.journal.history import TrajectoryHistory
from solver.types import StopReason

_HEIGHTS = "▁▂▃▄▅▆▇█"
_BAR, _LONGEST_BAR, _MOST_ANSWERS = "━", 12, 4


def lane_strip(launch: int, trajectories: Mapping[int, TrajectoryHistory], max_tokens: int) -> Text:
    """A sign a trajectory: how high its tokens stand, or how it ended (● voted, ○ not, × dropped)."""
    strip = Text()
    for index in range(launch):
        strip.append(*_sign(trajectories.get(index), max_tokens))
    return strip


def vote_bars(votes: Mapping[int, int]) -> Text:
    """The answers with most votes, each with a bar and its number of votes."""
    best = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))[:_MOST_ANSWERS]
    most = max((count for _, count in best), default=1)
    bars = Text()
    for place, (answer, count) in enumerate(best):
        bars.append(f"{'  ' if place else ''}{answer} ")
        bars.append(_BAR * max(1, min(count, _LONGEST_BAR * count // most)), "cyan")
        bars.append(f" {count}")
    return bars


def _sign(trajectory: TrajectoryHistory | None, max_tokens: int) -> tuple[str, str]:
    if trajectory is None:
        return "·", "dim"
    if trajectory.stop_reason is StopReason.PRUNED:
        return "×", "dim"
    if trajectory.stands_still:
        return ("○", "yellow") if trajectory.answer is None else ("●", "green")
    height = min(len(_HEIGHTS) - 1, trajectory.num_tokens * len(_HEIGHTS) // max_tokens)
    return _HEIGHTS[height], "cyan"
