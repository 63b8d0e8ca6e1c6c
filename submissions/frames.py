"""Converts the gateway's arguments into plain values, and an answer into the row that it expects.

Kaggle's gateways pass polars Series of length 1 (older ones pandas), and expect a frame of the same
kind. Neither is imported unless it is there.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from solver.cli.extras import install
from solver.errors import ConfigError


def problem_of(values: Sequence[object]) -> tuple[str, str]:
    """Id and statement: the first two values, whatever their columns are called.

    A third one is the answer, which some gateways pass along: it is not looked at.
    """
    return _text(values[0]), _text(values[1])


def one_row(problem_id: str, answer: int) -> Any:
    """The frame `{"id": [problem_id], "answer": [answer]}`, of polars where it is installed."""
    return frame_library().DataFrame({"id": [problem_id], "answer": [answer]})


@functools.cache
def frame_library() -> ModuleType:
    """polars, or pandas if it is not installed; `ConfigError` if neither is."""
    for name in ("polars", "pandas"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ConfigError(f"neither polars nor pandas is installed: {install('polars')}")


def _text(value: object) -> str:
    single = _single(value)
    text = "" if single is None or single != single else str(single)  # NaN is a missing text
    return text.encode("utf-8", "replace").decode()  # half characters have no UTF-8


def _single(value: object) -> object:
    """The first entry of a frame, a series or a list; anything else is itself."""
    if isinstance(value, str):
        return value
    columns = getattr(value, "columns", None)
    if columns is not None:
        value = value[columns[0]]  # type: ignore[index]
    if hasattr(value, "to_list"):
        value = value.to_list()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return _single(value[0]) if value else None
    return value
