"""Reading a journal line by line, of this version, an older or a newer one: the one way to do it.

Journals of this and of older minor versions are read as they are. In one of a newer minor, events of
unknown types are passed over and counted, unknown settings are left out, and anything else that does
not fit is refused with a word. Another major version is refused at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from solver.config import SolverConfig
from solver.errors import JournalError
from solver.journal.events import (
    EVENTS,
    SCHEMA_MINOR,
    SCHEMA_VERSION,
    Event,
    RunResumed,
    RunStarted,
)

_TYPES = frozenset(kind.model_fields["type"].default for kind in get_args(get_args(Event)[0]))
_FIRST = RunStarted.model_fields["type"].default


class Line(NamedTuple):
    """Where an event stands: the line's number, from 1, its first byte, and the byte after its end."""

    number: int
    begin: int
    end: int


BEGINNING = Line(0, 0, 0)


class JournalReader:
    """Reads the events of a journal on from where it stands, one line in memory at a time.

    `torn_bytes` counts what follows the last newline: a crash tore it, or it is still being written.
    `skipped` counts events that only a newer version knows. A tolerant reader passes over what cannot
    be read: `damaged` counts these lines, `first_damaged` is the number of the first.
    """

    def __init__(self, path: Path, *, tolerant: bool = False, after: Line = BEGINNING) -> None:
        """Begin behind the line `after`: by default at the beginning of the file."""
        self.torn_bytes = self.skipped = self.damaged = self.first_damaged = 0
        self._path, self._tolerant = path, tolerant
        self._last = after
        self._minor = 0

    @property
    def position(self) -> int:
        """The byte where reading goes on."""
        return self._last.end

    def events(self, mentioning: str = "", end: float = inf) -> Iterator[tuple[Event, Line]]:
        """The events that were not read yet, up to the byte `end`, each with its line.

        With `mentioning`, of the lines that hold this text only. Raises `JournalError` for a file that
        cannot be read or is of another major version and, unless tolerant, for a damaged line.
        """
        wanted = mentioning.encode("utf-8", "replace")
        self.torn_bytes = 0
        try:
            with self._path.open("rb") as file:
                file.seek(self._last.end)
                for line in file:
                    if not line.endswith(b"\n"):
                        self.torn_bytes = len(line)
                        return
                    begin = self._last.end
                    self._last = Line(self._last.number + 1, begin, begin + len(line))
                    if wanted in line and (event := self._event(line)) is not None:
                        yield event, self._last
                    if self._last.end >= end:
                        return
        except OSError as error:
            raise JournalError(f"cannot read {self._path}: {error.strerror}") from None

    def _event(self, line: bytes) -> Event | None:
        try:
            event = EVENTS.validate_json(self._first_line(line) if self._is_first else line)
        except (ValueError, RecursionError):  # pydantic's own are ValueErrors
            self._pass_over(line)
            return None
        if isinstance(event, RunResumed):
            self._minor = max(self._minor, event.schema_minor)
        return event

    @property
    def _is_first(self) -> bool:
        return self._last.number == 1

    @property
    def _where(self) -> str:
        return f"{self._path} line {self._last.number}"

    def _first_line(self, line: bytes) -> bytes:
        """The first line as this version can read it. Raises `JournalError` for another major one."""
        fields = json.loads(line)
        if not isinstance(fields, dict) or fields.get("type") != _FIRST:
            if self._tolerant:
                return line
            raise JournalError(f"{self._where} is not the start of a run")
        version, minor = fields.get("schema_version"), fields.get("schema_minor", 0)
        if version != SCHEMA_VERSION:
            raise JournalError(
                f"{self._where} has schema {version}; this version reads {SCHEMA_VERSION}"
            )
        self._minor = minor if isinstance(minor, int) else 0
        if self._minor <= SCHEMA_MINOR:
            return line
        if isinstance(fields.get("config"), dict):
            fields["config"] = _known(fields["config"], SolverConfig)
        return json.dumps(fields).encode()

    def _pass_over(self, line: bytes) -> None:
        """Count an event of a newer version; anything else is damage."""
        kind = _type_of(line) if self._minor > SCHEMA_MINOR else None
        if kind is not None and (kind not in _TYPES or self._tolerant):
            self.skipped += 1
        elif self._tolerant:
            self.damaged += 1
            self.first_damaged = self.first_damaged or self._last.number
        elif kind is None:
            raise JournalError(f"{self._where} is damaged; the run cannot be read beyond it")
        else:
            raise JournalError(
                f"{self._where} was written by a newer version (schema {SCHEMA_VERSION}."
                f"{self._minor}, this one reads {SCHEMA_VERSION}.{SCHEMA_MINOR}): update stop-solver"
                " to read it"
            )


def _type_of(line: bytes) -> str | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = fields.get("type") if isinstance(fields, dict) else None
    return kind if isinstance(kind, str) else None


def _known(section: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Settings without those that only a newer version knows."""
    kept: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name not in section:
            continue
        value, kind = section[name], field.annotation
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
            value = _known(value, kind)
        kept[name] = value
    return kept


@dataclass(frozen=True, slots=True)
class Journal:
    """What a journal holds. `torn_bytes` after the last newline were dropped.

    `skipped` counts events that only a newer version knows.
    """

    events: tuple[Event, ...]
    torn_bytes: int
    skipped: int = 0


def read_journal(path: Path) -> Journal:
    """Every event, in order. `JournalError` when a whole line is damaged or of another schema."""
    reader = JournalReader(path)
    events = tuple(event for event, _ in reader.events())
    return Journal(events, reader.torn_bytes, reader.skipped)
