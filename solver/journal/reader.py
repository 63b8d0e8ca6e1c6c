"""Reading a journal line by line, of this version, an older or a newer one.

Journals of this and of older minor versions are read as they are. In one of a newer minor, events of
unknown types are passed over and counted, unknown settings are left out, and anything else that does
not fit is refused with a word. Another major version is refused at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from solver.config import SolverConfig
from solver.errors import JournalError
from solver.journal.events import (
    EVENTS,
    SCHEMA_MINOR,
    SCHEMA_VERSION,
    Event,
    RunResumed,
    RunStarted,
    event_of,
)

_TYPES = frozenset(kind.model_fields["type"].default for kind in get_args(get_args(Event)[0]))


class JournalReader:
    """Iterates over the events of a journal, one line in memory at a time.

    When an iteration has ended, `torn_bytes` counts what follows the last newline (a crash tore it),
    and `skipped` the events whose types this version does not know.
    """

    def __init__(self, path: Path) -> None:
        self.torn_bytes = 0
        self.skipped = 0
        self._path = path
        self._minor = 0

    def __iter__(self) -> Iterator[Event]:
        """Each event, in order; raises `JournalError` when it comes to a line it cannot read."""
        self.skipped = self.torn_bytes = 0
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n"):
                        self.torn_bytes = len(line)
                    elif (event := self._event(line, number)) is not None:
                        yield event
        except OSError as error:
            raise JournalError(f"cannot read {self._path}: {error.strerror}") from None

    def _event(self, line: bytes, number: int) -> Event | None:
        where = f"{self._path} line {number}"
        try:
            if number == 1:
                self._minor = _checked_minor(json.loads(line), where)
                line = without_unknown_settings(line) if self._newer else line
            event = EVENTS.validate_json(line)
        except (ValidationError, ValueError, RecursionError):
            self._pass_over(line, where)
            return None
        if isinstance(event, RunResumed):
            self._minor = max(self._minor, event.schema_minor)
        return event

    @property
    def _newer(self) -> bool:
        return self._minor > SCHEMA_MINOR

    def _pass_over(self, line: bytes, where: str) -> None:
        """Count an event of an unknown type in a newer journal; anything else is an error."""
        kind = _type_of(line)
        if not self._newer or kind is None:
            raise JournalError(f"{where} is damaged; the run cannot be read beyond it") from None
        if kind in _TYPES:
            raise JournalError(
                f"{where} was written by a newer version (schema {SCHEMA_VERSION}.{self._minor}, this"
                f" one reads {SCHEMA_VERSION}.{SCHEMA_MINOR}): update stop-solver to read it"
            ) from None
        self.skipped += 1


def _checked_minor(fields: object, where: str) -> int:
    """The minor version; raises `JournalError` for another major one."""
    first = RunStarted.model_fields["type"].default
    if not isinstance(fields, dict) or fields.get("type") != first:
        raise JournalError(f"{where} is not the start of a run")
    version = fields.get("schema_version")
    if version != SCHEMA_VERSION:
        raise JournalError(f"{where} has schema {version}; this version reads {SCHEMA_VERSION}")
    minor = fields.get("schema_minor", 0)
    return minor if isinstance(minor, int) else 0


def _type_of(line: bytes) -> str | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = fields.get("type") if isinstance(fields, dict) else None
    return kind if isinstance(kind, str) else None


def without_unknown_settings(line: bytes) -> bytes:
    """The first line of a journal, without the settings that only a newer version knows.

    Raises ValueError for a line that is not JSON.
    """
    fields = json.loads(line)
    if isinstance(fields, dict) and isinstance(fields.get("config"), dict):
        fields["config"] = _known(fields["config"], SolverConfig)
    return json.dumps(fields).encode()


def _known(section: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
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
    events = tuple(reader)
    return Journal(events, reader.torn_bytes, reader.skipped)


def skim(path: Path, mentions: str = "") -> Iterator[Event]:
    """The events whose line holds `mentions`, one at a time; damaged and torn lines are passed over.

    For what must go on whatever the journal looks like, and must not hold a long run in memory.
    """
    wanted = mentions.encode("utf-8", "replace")
    with path.open("rb") as file:
        for line in file:
            whole = wanted in line and line.endswith(b"\n")
            if whole and (event := event_of(line)) is not None:
                yield event
