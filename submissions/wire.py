"""The messages between the stand-in's gateway and server: JSON, so that neither unpickles foreign data.

A row is sent as its columns, an answer as a description of what `predict` returned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from solver.errors import SolverError, named
from submissions.frames import frame_library


class Untransportable(SolverError):
    """`predict` returned a value that Kaggle's transport does not accept either."""


def row_message(row: Mapping[str, object]) -> bytes:
    """One row: column -> value, in the order of the arguments."""
    return json.dumps(dict(row)).encode()


def series_of(message: bytes) -> list[Any]:
    """The arguments of `predict`: a Series of length 1 for each column."""
    library = frame_library()
    row = json.loads(message)
    if library.__name__ == "polars":
        return [library.Series(name, [value]) for name, value in row.items()]
    return [library.Series([value], name=name) for name, value in row.items()]


def describe(value: object) -> dict[str, Any]:
    """`kind` is frame, series, plain, none or dict; a frame comes with its columns, in order."""
    if value is None:
        return {"kind": "none"}
    if isinstance(value, bool | int | float | str):
        return {"kind": "plain", "value": value}
    if isinstance(value, dict):
        return {"kind": "dict"}
    if hasattr(value, "columns"):
        columns = {str(name): _plain(value[name]) for name in value.columns}  # type: ignore[index]
        return {"kind": "frame", "columns": columns}
    if hasattr(value, "to_list"):
        return {"kind": "series", "values": _plain(value)}
    raise Untransportable(f"{type(value).__name__} cannot be sent")


def answer_message(value: object) -> bytes:
    """The message for a value that `predict` returned."""
    return json.dumps(describe(value)).encode()


def error_message(error: BaseException) -> bytes:
    """The message for an exception that `predict` raised."""
    return json.dumps({"kind": "error", "what": named(error)}).encode()


def _plain(series: Any) -> list[Any]:
    return list(series.to_list())
