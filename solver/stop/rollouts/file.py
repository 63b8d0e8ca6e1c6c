"""Rollouts on disk, one JSON object a line: a header that says how they were sampled, then the problems.

A line is written when its newline is, so an interrupted sampling goes on where it was: what follows
the last newline was torn and is dropped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from solver.errors import InputError
from solver.stop.rollouts.rollout import ProblemRollouts


class SamplingHeader(BaseModel):
    """How everything in a file was sampled; a file is only continued under the same header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    model: str
    prompt: str
    seed: int
    launch: int
    continuations: int
    stored_tokens: int
    share_calls: bool
    sampling: dict[str, float]


class RolloutFile:
    """A file of rollouts that is being written. `done` holds what earlier processes sampled.

    `stored_tokens` is the file's own number, which may be larger than the one asked for.
    """

    def __init__(self, path: Path, header: SamplingHeader) -> None:
        """Create the file, or go on with it if its header agrees. Raises `InputError`."""
        self.done: list[ProblemRollouts] = []
        self.stored_tokens = header.stored_tokens
        try:
            if path.exists() and path.stat().st_size:
                known, self.done, whole = _read(path)
                _check_same(known, header, path)
                self.stored_tokens = known.stored_tokens
                with path.open("r+b") as file:
                    file.truncate(whole)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(header.model_dump_json() + "\n", encoding="utf-8")
            self._file: IO[bytes] = path.open("ab", buffering=0)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None

    def append(self, rollouts: ProblemRollouts) -> None:
        """Add one line."""
        line = rollouts.model_dump_json(exclude_defaults=True).encode() + b"\n"
        while line:  # a raw write may take less than it was given
            line = line[self._file.write(line) or 0 :]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rollouts(path: Path) -> tuple[SamplingHeader, list[ProblemRollouts]]:
    """The header and every whole line of a file. Raises `InputError`."""
    try:
        header, rollouts, _ = _read(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return header, rollouts


def _read(path: Path) -> tuple[SamplingHeader, list[ProblemRollouts], int]:
    """Header, lines, and the bytes up to the last newline; what follows it was torn by a crash."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].split(b"\n")[:-1]
    try:
        if not lines:
            raise ValueError
        header = SamplingHeader.model_validate_json(lines[0])
    except ValueError:
        raise InputError(f"{path} does not begin as a file of rollouts does") from None
    rollouts: list[ProblemRollouts] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            rollouts.append(ProblemRollouts.model_validate_json(line))
        except ValidationError:
            raise InputError(f"{path} line {number} is damaged") from None
    return header, rollouts, whole


def _check_same(known: SamplingHeader, header: SamplingHeader, path: Path) -> None:
    before: dict[str, Any] = known.model_dump()
    for name, value in header.model_dump().items():
        longer = name == "stored_tokens" and before[name] > value and header.continuations == 1
        if before[name] != value and not longer:
            raise InputError(
                f"{path} was sampled with {name} {json.dumps(before[name])}, now it is"
                f" {json.dumps(value)}: name another file"
            )
