"""Results of an ablation on disk, one JSON object a line: which ablation it is, then its points.

A point is written when it is done, so an interrupted ablation goes on with the next one.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from solver.adapter.spec import Metrics
from solver.errors import ConfigError, InputError


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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes() if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]  # what follows was torn by a crash
            if whole:
                self._read(whole, identity)
                if len(whole) < len(data):
                    with path.open("r+b") as file:
                        file.truncate(len(whole))
            else:
                path.write_text(json.dumps(identity) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None

    def append(self, result: Result) -> None:
        """Add a point. Raises `InputError`."""
        self.done[result.axis, result.value] = result
        try:
            with self.path.open("ab") as file:
                file.write(result.model_dump_json().encode() + b"\n")
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from None

    def _read(self, whole: bytes, identity: dict[str, object]) -> None:
        first, *rest = whole.splitlines()
        try:
            known = json.loads(first)
            results = [Result.model_validate_json(line) for line in rest]
        except (ValueError, ValidationError):
            raise ConfigError(
                f"{self.path} is not a file of ablation results, or damaged"
            ) from None
        for name, value in json.loads(json.dumps(identity)).items():
            if not isinstance(known, dict) or known.get(name) != value:
                raise ConfigError(
                    f"{self.path} is of another ablation ({name} differs): give another --work"
                )
        self.done = {(result.axis, result.value): result for result in results}
