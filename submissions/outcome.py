"""The outcome of a task, and the time limits for a worker."""

from __future__ import annotations

from dataclasses import dataclass, field

from solver.journal.events import Solved


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How long a worker may take to start, and how long it may be silent or late, in seconds."""

    start_s: float = 1800.0
    silence_s: float = 30.0
    least_silence_s: float = 3.0

    def silence(self, allotted_s: float) -> float:
        """A quarter of a problem's time, within bounds: a hang must not cost the whole problem."""
        return min(self.silence_s, max(self.least_silence_s, allotted_s / 4))


@dataclass(slots=True)
class Outcome:
    """The worker's answer (`solved`) or the best vote so far (`best`); `notes` say what went wrong."""

    solved: Solved | None = None
    best: int | None = None
    notes: list[str] = field(default_factory=list)
