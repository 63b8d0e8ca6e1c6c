"""Rollouts on disk, one JSON object a line: a header that says how they were sampled, then the problems.

An interrupted sampling goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from solver.errors import InputError
from solver.files.jsonl import JsonlFile, whole_lines
from solver.files.whole import write_whole
from solver.stop.rollouts.rollout import ProblemRollouts, statement_digest
from solver.types import Problem

ROLLOUTS = ".rollouts.jsonl"  # how the name of such a file ends


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

    @property
    def holds_whole(self) -> bool:
        """Whether rollouts are stored to their ends, but for answers that were forced beyond the limit."""
        longest = self.sampling.get("max_tokens", inf)
        return self.continuations == 1 and self.stored_tokens >= longest


class RolloutFile:
    """A file of rollouts that is being written. `done` holds what earlier processes sampled.

    `stored_tokens` is the file's own number, which may be larger than the one asked for.
    """

    def __init__(
        self, path: Path, header: SamplingHeader, problems: Iterable[Problem] = ()
    ) -> None:
        """Create the file, or continue it if its header is the same.

        Raises `InputError`, also if it holds rollouts of another problem with the id of one of `problems`.
        """
        self.done: list[ProblemRollouts] = []
        self.stored_tokens = header.stored_tokens

        def go_on(lines: list[bytes]) -> None:
            known, self.done = _parsed(lines, path)
            _check_same(known, header, path)
            _check_statements(self.done, problems, path)
            self.stored_tokens = known.stored_tokens

        self._file = JsonlFile(path, header.model_dump_json(), go_on)

    def append(self, rollouts: ProblemRollouts) -> None:
        """Add one line. Raises `InputError`."""
        self._file.append(rollouts.model_dump_json(exclude_defaults=True))

    def close(self) -> None:
        """Let others write."""
        self._file.close()


def as_stored(header: SamplingHeader, path: Path) -> SamplingHeader:
    """`header` with the stored tokens of `path`, if these are more: what a sampling into it goes on with."""
    try:
        with path.open("rb") as file:
            known = SamplingHeader.model_validate_json(file.readline())
    except (OSError, ValueError):
        return header
    most = max(known.stored_tokens, header.stored_tokens)
    return header.model_copy(update={"stored_tokens": most})


def read_rollouts(path: Path) -> tuple[SamplingHeader, list[ProblemRollouts]]:
    """The header and every whole line of a file. Raises `InputError`."""
    try:
        return _parsed(whole_lines(path), path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def write_rollouts(path: Path, header: SamplingHeader, units: Sequence[ProblemRollouts]) -> None:
    """Write a whole file in one step. Raises `InputError`."""
    lines = [header.model_dump_json()]
    lines += [unit.model_dump_json(exclude_defaults=True) for unit in units]
    write_whole(path, "".join(f"{line}\n" for line in lines))


def merge_rollouts(paths: Sequence[Path], out: Path) -> int:
    """Write the rollouts of several files into the new file `out`; returns how many problems it holds.

    Raises `InputError`, before anything is written, for files that were sampled in another way, that share
    a problem, or of which one was torn while it was written.
    """
    first, lines = paths[0], b""
    header, _ = read_rollouts(first)
    found: dict[tuple[str, int], Path] = {}
    for path in paths:
        known, units = read_rollouts(path)
        _check_equal(known, header, path, first)
        for unit in units:
            key = unit.problem_id, unit.block
            if key in found:
                raise InputError(f"{unit.problem_id!r} is in {found[key]} and in {path}")
            found[key] = path
        text = path.read_bytes()
        if not text.endswith(b"\n"):
            raise InputError(f"{path} ends in a torn line: let its sampling go on first")
        lines += text[text.index(b"\n") + 1 :]
    write_whole(out, header.model_dump_json() + "\n" + lines.decode())
    return len(found)


def _parsed(lines: list[bytes], path: Path) -> tuple[SamplingHeader, list[ProblemRollouts]]:
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
    return header, rollouts


def _check_statements(
    units: Iterable[ProblemRollouts], problems: Iterable[Problem], path: Path
) -> None:
    statements = {problem.id: statement_digest(problem.statement) for problem in problems}
    for unit in units:
        expected = statements.get(unit.problem_id)
        if None not in (expected, unit.statement) and unit.statement != expected:
            raise InputError(
                f"{path} holds rollouts of another problem with the id {unit.problem_id!r}: name another file"
            )


def _check_equal(known: SamplingHeader, header: SamplingHeader, path: Path, first: Path) -> None:
    expected = header.model_dump()
    for name, value in known.model_dump().items():
        if value != expected[name]:
            raise InputError(
                f"{path} was sampled with {name} {json.dumps(value)}, {first} with"
                f" {json.dumps(expected[name])}: they cannot be merged"
            )


def _check_same(known: SamplingHeader, header: SamplingHeader, path: Path) -> None:
    before: dict[str, Any] = known.model_dump()
    for name, value in header.model_dump().items():
        longer = name == "stored_tokens" and before[name] > value and header.continuations == 1
        if before[name] != value and not longer:
            raise InputError(
                f"{path} was sampled with {name} {json.dumps(before[name])}, now it is"
                f" {json.dumps(value)}: name another file"
            )
