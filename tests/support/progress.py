"""Progress that tests look at: what was reported, what was printed, on a clock of their own."""

from __future__ import annotations

import io
from dataclasses import dataclass

from rich.console import Console

from solver.cli.progress import WorkProgress


@dataclass
class HandClock:
    """A clock that stands still until it is set."""

    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds


class HeardProgress(WorkProgress):
    """Remembers its reports and prints into `output`, as a file or as a terminal would."""

    def __init__(self, *, terminal: bool = False, quiet: bool = False) -> None:
        self.clock, self.output = HandClock(), io.StringIO()
        self.reports: list[tuple[str, int, int | None, str]] = []
        console = Console(
            file=self.output, force_terminal=terminal, quiet=quiet, width=120, highlight=False
        )
        super().__init__(quiet=quiet, clock=self.clock, console=console)

    def report(self, stage: str, done: int = 0, total: int | None = None, note: str = "") -> None:
        self.reports.append((stage, done, total, note))
        super().report(stage, done, total, note)

    def line_at(self, seconds: float) -> str:
        """What it prints of the stages under way at that time."""
        before, self.clock.seconds = len(self.output.getvalue()), seconds
        self.show()
        return self.output.getvalue()[before:]
