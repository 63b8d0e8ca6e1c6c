"""Scores on disk, one JSON object a line: what was scored with what, then every unit at every mark.

They say how each rollout ends too, so every table can be computed from them alone. An interrupted
evaluation goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from solver.errors import ConfigError, InputError
from solver.files.jsonl import JsonlFile, whole_lines
from solver.stop.evaluation.scoring import Marked
from solver.stop.rollouts.file import SamplingHeader

_MARKED: TypeAdapter[Marked] = TypeAdapter(Marked)

Key = tuple[str, int, int, int, int]  # problem, block, launch, mark, draw


class ScoreHeader(BaseModel):
    """How the rollouts were sampled, and the sha256 of each training's adapters and reward model.

    `last_checks` are the adapters of the last check; files from before it have none. `model` is the
    fingerprint of the model that scored, empty where it is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampling: SamplingHeader
    adapters: tuple[str, ...]
    reward_models: tuple[str, ...]
    last_checks: tuple[str, ...] = ()
    model: str = ""

    @property
    def num_draws(self) -> int:
        """How many trainings there are of what was trained most often."""
        return max(1, len(self.adapters), len(self.reward_models), len(self.last_checks))


class Scores:
    """Marked units by launch and mark; with a file, also those of earlier processes."""

    def __init__(self, header: ScoreHeader, path: Path | None = None) -> None:
        """Go on with the file if it is of the same rollouts and trainings. Raises `ConfigError`."""
        self.header = header
        self._found: dict[Key, Marked] = {}
        self._file: JsonlFile | None = None
        if path is None:
            return

        def go_on(lines: list[bytes]) -> None:
            known, marked = _parsed(lines, path)
            before: dict[str, Any] = known.model_dump()
            for name, value in header.model_dump().items():
                # without the model it is not known, nor what is shipped for it
                unknown = not value and not header.model
                unknown |= name == "model" and not before[name]
                if before[name] != value and not unknown:
                    raise ConfigError(f"{path} holds scores of other {name}: name another file")
            self._take(marked)

        self._file = JsonlFile(path, header.model_dump_json(), go_on)

    @classmethod
    def of(cls, header: ScoreHeader, marked: Iterable[Marked]) -> Scores:
        """Scores that were read from somewhere."""
        scores = cls(header)
        scores._take(marked)
        return scores

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def append(self, marked: Marked) -> None:
        """Add a unit. Raises `InputError`."""
        self._take([marked])
        if self._file is not None:
            self._file.append(line_of(marked))

    def close(self) -> None:
        """Let others write."""
        if self._file is not None:
            self._file.close()

    def refuse_partial(
        self, units: Iterable[tuple[str, int]], settings: Iterable[tuple[int, int]], path: Path
    ) -> None:
        """Raise `InputError` where one of `units` (problem, block) is not scored at one of `settings`."""
        units, draws = list(units), range(self.header.num_draws)
        for launch, mark in settings:
            lacking = [
                unit
                for unit in units
                if any((*unit, launch, mark, draw) not in self._found for draw in draws)
            ]
            if lacking:
                raise InputError(
                    f"{path}: {len(lacking)} problems are not scored yet ({launch} rollouts, mark {mark}),"
                    f" the first is {lacking[0][0]!r}: let `evaluate` go on"
                )

    def all(self) -> list[Marked]:
        """Every unit as it was added."""
        return list(self._found.values())

    def at(self, launch: int, mark: int) -> list[Marked]:
        """The units at a mark in every draw, with the scores that do not depend on the draw in each."""
        first = {
            (m.problem_id, m.block): m
            for m in self._found.values()
            if (m.launch, m.mark, m.draw) == (launch, mark, 0)
        }
        units = list(first.values())
        for m in self._found.values():
            if (m.launch, m.mark) == (launch, mark) and m.draw:
                known = first[m.problem_id, m.block]
                # in the order of the first draw's methods
                scores, seconds = {**known.scores, **m.scores}, {**known.seconds, **m.seconds}
                units.append(replace(m, scores=scores, seconds=seconds))
        return units

    def units(self) -> list[tuple[str, int]]:
        """Every problem and block of which there is a score."""
        return list(dict.fromkeys((m.problem_id, m.block) for m in self._found.values()))

    def settings(self) -> list[tuple[int, int]]:
        """Every launch and mark at which something is scored."""
        return sorted({(m.launch, m.mark) for m in self._found.values()})

    def said_settings(self) -> str:
        """The settings in words."""
        return ", ".join(f"{launch} rollouts at mark {mark}" for launch, mark in self.settings())

    def _take(self, marked: Iterable[Marked]) -> None:
        for m in marked:
            self._found[m.problem_id, m.block, m.launch, m.mark, m.draw] = m


def read_scores(path: Path) -> Scores:
    """A file of scores. Raises `InputError`."""
    try:
        header, marked = _parsed(whole_lines(path), path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return Scores.of(header, marked)


def line_of(marked: Marked) -> str:
    """A unit as a line of JSON."""
    return _MARKED.dump_json(marked).decode()


def marked_of(line: bytes) -> Marked:
    """A unit from its line. Raises `ValidationError`."""
    return _MARKED.validate_json(line)


def folder_digest(folder: Path) -> str:
    """The sha256 (hex) of a folder's files, their names included. Raises `ConfigError`."""
    sha = hashlib.sha256()
    try:
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            sha.update(json.dumps(file.name).encode())
            sha.update(hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror}") from None
    return sha.hexdigest()


def _parsed(lines: Sequence[bytes], path: Path) -> tuple[ScoreHeader, list[Marked]]:
    try:
        header = ScoreHeader.model_validate_json(lines[0])
        return header, [marked_of(line) for line in lines[1:]]
    except (IndexError, ValidationError):
        raise InputError(f"{path} is not a file of scores, or it is damaged") from None
