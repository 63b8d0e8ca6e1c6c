"""What was recorded of a run, as plain values: problems, their trajectories, and when each did what.

Nothing is interpreted here. Times are seconds since the run began, over all of its processes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from solver.config import SolverConfig
from solver.journal.events import (
    Checked,
    Ended,
    EngineIncident,
    RunEnded,
    RunStarted,
    Scored,
    Solved,
)
from solver.types import Problem, Trajectory


@dataclass(frozen=True, slots=True)
class Span:
    """One request for tokens, or one tool call: when, in which turn, and how many ids.

    `tokens` are sampled, or appended by the call; `encoded` are those the engine had to encode first.
    """

    started: float
    ended: float
    turn: int
    tokens: int
    encoded: int = 0
    tool: bool = False

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass(slots=True)
class TrajectoryRecord:
    """One trajectory, its spans in order, and where it stood still: at the mark, and for good."""

    trajectory: Trajectory
    spans: list[Span] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    forced: float | None = None  # when an answer was forced

    @property
    def index(self) -> int:
        """Its place among the N."""
        return self.trajectory.index


@dataclass(slots=True)
class ProblemRecord:
    """All that was recorded of a problem; trajectories in order of index, `solved` None if interrupted."""

    problem: Problem
    started: float
    allotted_s: float | None
    prompt_token_ids: tuple[int, ...]
    trajectories: dict[int, TrajectoryRecord] = field(default_factory=dict)
    checked: Checked | None = None
    scored: list[Scored] = field(default_factory=list)
    solved: Solved | None = None
    # ended for good before the problem was begun anew: theirs, unless they were begun anew as well
    earlier: dict[int, TrajectoryRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recording:
    """A run in memory. `problems` are in the order of the file, those never started are left out."""

    path: Path
    start: RunStarted
    problems: tuple[ProblemRecord, ...]
    incidents: tuple[EngineIncident, ...]
    end: RunEnded | None
    torn_bytes: int
    skipped: int

    @property
    def config(self) -> SolverConfig:
        """What the run was configured with."""
        return self.start.config
