"""Finds and runs Kaggle's part of a competition: its inference server class, or AIMO1's environment."""

from __future__ import annotations

import importlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from solver.cli.python import python
from solver.errors import ConfigError, InputError
from solver.files.problems import load_problems
from submissions.competitions import Competition
from submissions.frames import problem_of
from submissions.paths import COMPETITION_FILES, attached, listing

GATEWAY_PORT = 50051
_RERUN = "KAGGLE_IS_COMPETITION_RERUN"


def is_rerun() -> bool:
    """Whether this is the scored run, and not the one that saves the notebook."""
    return _RERUN in os.environ


def rerun_environment() -> dict[str, str]:
    """The environment variable that marks a rerun, with its value."""
    return {_RERUN: "1"}


def competition_folder(competition: Competition, root: Path) -> Path | None:
    """The competition's folder, in any layout; None if it is not attached."""
    return attached(competition.slug, COMPETITION_FILES, root)


def load_module(competition: Competition, root: Path) -> ModuleType:
    """The competition's Python module. Raises `ConfigError` if it cannot be imported."""
    folder = competition_folder(competition, root)
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(competition.module)
    except ImportError as error:
        raise ConfigError(
            f"{competition.module} cannot be imported ({error}): attach the competition"
            f" {competition.slug} to the notebook, or rehearse with {python()} -m submissions.dryrun;"
            f" looked at {', '.join(listing(root))}"
        ) from None


def test_file(folder: Path | None) -> Path | None:
    """The competition's test.csv, which a run outside of a rerun answers; None if there is none."""
    path = folder / "test.csv" if folder is not None else None
    return path if path is not None and path.is_file() else None


def count_problems(file: Path | None, expected: int) -> int:
    """The number of rows to divide the time among: those of `file`, in a rerun at least `expected`."""
    try:
        rows = len(load_problems(file)) if file is not None else 0
    except InputError:
        return expected
    return max(rows, expected) if is_rerun() or rows == 0 else rows


def listening(port: int) -> bool:
    """Whether a process on this machine listens on `port`."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def iterate(module: ModuleType, answer: Callable[[str, str], int]) -> None:
    """AIMO1's protocol: for each pair of frames (test, sample), fill in the answer and return the sample."""
    environment: Any = module.make_env()
    for test, sample in environment.iter_test():
        statement = next(name for name in test.columns if name != "id")
        sample["answer"] = answer(*problem_of((test["id"], test[statement])))
        environment.predict(sample)
