"""Results of an ablation on disk, one JSON object a line: which ablation it is, then its points.

A point is written when it is done, so an interrupted ablation goes on with the next one.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from solver.adapter.spec import Metrics
from solver.errors import ConfigError
from solver.files.jsonl import JsonlFile


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Values(_Frozen):
    """What a method reaches, problem by problem (means over blocks), in shares of 1.

    `within` is the AUROC among the problem's own rollouts, None where all end alike.
    """

    average: tuple[float, ...]
    vote: tuple[float, ...]
    within: tuple[float | None, ...]


class Result(_Frozen):
    """One point. `problem_ids` are those evaluated on, in the order of every method's values.

    `seconds` is the wall time of training, `cpu_seconds` the processor time of the whole point.
    """

    axis: str
    value: str
    families: tuple[str, ...] = ()
    mark: int
    num_problems: int
    num_examples: int
    best_epoch: int
    num_epochs: int
    validation: Metrics
    seconds: float
    cpu_seconds: float
    problem_ids: tuple[str, ...]
    values: dict[str, Values]


class ResultFile:
    """The file of one ablation. `done` holds the points that are in it, the last of each kind."""

    def __init__(self, path: Path, identity: dict[str, object]) -> None:
        """Create it, or go on with it if it is of the same ablation. Raises `ConfigError`."""
        self.path = path
        self.done: dict[tuple[str, str], Result] = {}
        known = json.dumps(identity)
        self._file = JsonlFile(path, known, lambda lines: self._read(lines, json.loads(known)))

    def append(self, result: Result) -> None:
        """Add a point. Raises `InputError`."""
        self.done[result.axis, result.value] = result
        self._file.append(result.model_dump_json())

    def close(self) -> None:
        """Let others write."""
        self._file.close()

    def _read(self, lines: list[bytes], identity: dict[str, object]) -> None:
        try:
            first, *rest = lines
            known = json.loads(first)
            results = [Result.model_validate_json(line) for line in rest]
        except ValueError:
            raise ConfigError(
                f"{self.path} is not a file of ablation results, or damaged"
            ) from None
        for name, value in identity.items():
            if not isinstance(known, dict) or known.get(name) != value:
                raise ConfigError(
                    f"{self.path} is of another ablation ({name} differs): give another --work"
                )
        self.done = {(result.axis, result.value): result for result in results}
