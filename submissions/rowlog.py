"""The submission's log of its rows: one JSON object a line, in `submission.jsonl`.

`t` is seconds since the notebook started. Timelines are made from it. It never holds the right answers,
even if the gateway sends them. If the disk is full, entries are lost, but no answer is.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

NAME = "submission.jsonl"

How = Literal["solved", "best vote", "fallback", "repeated"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)

    t: float = 0.0


class Noted(_Entry):
    """A message for the user."""

    type: Literal["noted"] = "noted"
    what: str


class Loaded(_Entry):
    """The first problem may begin: the model is loaded, or the wait for it is over (`ready` is false)."""

    type: Literal["loaded"] = "loaded"
    ready: bool


class Asked(_Entry):
    """A row arrived. `share_s` is its even share of the time left, `allotted_s` the time it may take.

    `launch` and `keep` are how many trajectories that pays for; None if there is no time.
    """

    type: Literal["asked"] = "asked"
    number: int
    problem_id: str
    share_s: float
    allotted_s: float
    launch: int | None = None
    keep: int | None = None


class Answered(_Entry):
    """A row was answered. `how`: solved, best vote, fallback, or repeated (the row had been answered)."""

    type: Literal["answered"] = "answered"
    number: int
    problem_id: str
    answer: int
    how: How
    took_s: float
    lost_s: float
    degraded: list[str]


Entry = Annotated[Noted | Loaded | Asked | Answered, Field(discriminator="type")]
_ENTRIES: TypeAdapter[Entry] = TypeAdapter(Entry)


class RowLog:
    """Appends entries to files and prints a line for each.

    `started_at` is the notebook's start (monotonic).
    """

    def __init__(self, paths: Sequence[Path], started_at: float) -> None:
        self._paths = tuple(paths)
        self._started_at = started_at
        self._lock = threading.Lock()

    def elapsed(self) -> float:
        """Seconds since the notebook started."""
        return round(time.monotonic() - self._started_at, 3)

    def note(self, what: str) -> None:
        """Log and print a message for the user."""
        self.write(Noted(t=self.elapsed(), what=what))

    def write(self, entry: Entry) -> None:
        """Append an entry and print it."""
        fields = json.dumps(entry.model_dump(), ensure_ascii=False)
        with self._lock:
            for path in self._paths:
                with contextlib.suppress(OSError), path.open("ab") as file:
                    file.write(fields.encode("utf-8", "replace") + b"\n")
            with contextlib.suppress(OSError, ValueError):  # stdout is broken or closed
                print(f"[{entry.t:8.1f} s] {_sentence(entry)}", flush=True)


def read_rows(path: Path) -> Iterator[Entry]:
    """Every complete entry of a log, in order; none if there is no log."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                yield _ENTRIES.validate_json(line)


def _sentence(entry: Entry) -> str:
    if isinstance(entry, Noted):
        return entry.what[:2000]
    if isinstance(entry, Loaded):
        return "the solver is ready" if entry.ready else "there is no solver: fallback answers"
    name = f"problem {entry.number} ({ascii(entry.problem_id)[1:-1][:40]})"
    if isinstance(entry, Asked):
        paid_for = "" if entry.launch is None else f", {entry.launch} -> {entry.keep} trajectories"
        times = f"{entry.allotted_s:.1f} s allotted, even share {entry.share_s:.1f} s"
        return f"{name}: {times}{paid_for}"
    doubts = f"; {'; '.join(entry.degraded)[:300]}" if entry.degraded else ""
    return f"{name}: {entry.answer} ({entry.how}) after {entry.took_s:.1f} s{doubts}"
