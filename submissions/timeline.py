"""How the time of a rehearsal was spent, row by row, from the submission's own log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from solver.journal.summary import is_correct
from solver.runs.progress import printable
from solver.types import Problem
from submissions.rowlog import Answered, Asked, Entry, Loaded, Noted


@dataclass(slots=True)
class Timeline:
    """A run's rows. Banked and overdrawn time is measured against the even share at the run's start."""

    started_s: float | None = None
    asked: dict[int, Asked] = field(default_factory=dict)
    answered: list[Answered] = field(default_factory=list)
    notes: list[Noted] = field(default_factory=list)

    @property
    def banked_s(self) -> float:
        """Seconds that rows left of their share, summed over those that left some."""
        return sum(max(0.0, self.saved(row)) for row in self.answered)

    @property
    def overdrawn_s(self) -> float:
        """Seconds that rows took beyond their share."""
        return sum(max(0.0, -self.saved(row)) for row in self.answered)

    @property
    def lost_s(self) -> float:
        """Seconds without a working worker."""
        return sum(row.lost_s for row in self.answered)

    @property
    def degraded(self) -> int:
        """The number of answers with a degradation, or that are no vote of the solver."""
        return sum(bool(row.degraded) or row.how != "solved" for row in self.answered)

    @property
    def unexplained(self) -> list[Answered]:
        """The rows that are no vote of the solver and do not say why."""
        return [
            row
            for row in self.answered
            if row.how in ("best vote", "fallback") and not row.degraded
        ]

    def saved(self, row: Answered) -> float:
        """Seconds that a row left of its share; negative if it took more."""
        first = next(iter(self.asked.values()), None)
        return 0.0 if first is None else first.share_s - self.took(row)

    def took(self, row: Answered) -> float:
        """Seconds that a row took, without the wait for the model to be loaded."""
        asked = self.asked.get(row.number)
        return row.took_s if asked is None else row.t - asked.t


def timeline_of(log: list[Entry]) -> Timeline:
    """The timeline in a submission's log."""
    timeline = Timeline()
    for entry in log:
        if isinstance(entry, Loaded) and timeline.started_s is None:
            timeline.started_s = entry.t
        elif isinstance(entry, Asked):
            timeline.asked[entry.number] = entry
        elif isinstance(entry, Answered):
            timeline.answered.append(entry)
        elif isinstance(entry, Noted):
            timeline.notes.append(entry)
    return timeline


def show(
    timeline: Timeline, problems: Mapping[str, Problem], modulus: int | None, console: Console
) -> None:
    """A table of the rows, and the sums below it."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("#", "at", "problem", "took", "share", "banked", "lost", "answer", "", "how"):
        table.add_column(name, justify="left" if name in ("problem", "", "how") else "right")
    for row in timeline.answered:
        asked = timeline.asked.get(row.number)
        problem = problems.get(row.problem_id)
        cells = (
            str(row.number),
            f"{asked.t if asked else row.t - row.took_s:.1f}",
            printable(row.problem_id, 24),
            f"{timeline.took(row):.1f}",
            f"{asked.share_s:.1f}" if asked else "",
            f"{timeline.saved(row):+.1f}",
            f"{row.lost_s:.1f}" if row.lost_s else "",
            str(row.answer),
            _verdict(row, problem, modulus),
            printable("; ".join((row.how, *row.degraded)), 100),
        )
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    start = "never" if timeline.started_s is None else f"{timeline.started_s:.1f} s"
    console.print(
        f"start-up {start}; {len(timeline.answered)} rows; banked {timeline.banked_s:.1f} s,"
        f" overdrawn {timeline.overdrawn_s:.1f} s, lost {timeline.lost_s:.1f} s;"
        f" degraded answers: {timeline.degraded}"
    )


def _verdict(row: Answered, problem: Problem | None, modulus: int | None) -> str:
    if problem is None or problem.answer is None:
        return ""
    return "right" if is_correct(row.answer, problem, modulus) else "wrong"
