"""The progress of a training on stderr."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """Progress on stderr: bars on a terminal, a line an epoch elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._tasks: dict[str, Any] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(
            *columns,
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> TrainingProgress:
        self._bars.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._bars.__exit__(*failure)

    def report(self, stage: str, done: int, total: int, note: str) -> None:
        """Show the progress of a training stage."""
        if stage == "epoch":
            line = f"epoch {done} of {total}: {note}"
            self._console.print(line, markup=False, soft_wrap=True)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, note="")
        self._bars.update(self._tasks[stage], completed=done, total=total, note=note)


def quiet_transformers() -> None:
    """Switch off the progress bars and warnings of transformers."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging

    quiet: Any = logging.disable_progress_bar
    quiet()
