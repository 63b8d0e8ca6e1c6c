"""Rows of a file of problems, whatever it is kept as: CSV, JSONL, a JSON array or Parquet, also gzipped.

A file that could be misread is refused with one line that says where and why.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from solver.cli.extras import install
from solver.errors import InputError, first_line

MAX_STATEMENT_BYTES = 1_000_000
_MAX_FILE_BYTES = 64_000_000
_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_KINDS = {
    ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".json-lines": "jsonl", ".ndjson": "jsonl",
    ".json": "json", ".parquet": "parquet",
}  # fmt: skip

Row = tuple[int, dict[str, object]]  # line (of a file without lines: row) from 1, column -> value


def kind_of(path: Path) -> str | None:
    """`csv`, `jsonl`, `json` or `parquet`, by the file's name; None for another."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return _KINDS.get(suffixes[-1]) if suffixes else None


def read_rows(path: Path, columns: Collection[str]) -> list[Row]:
    """The rows of the file; one of `columns` (in lower case) tells a CSV file's separator.

    Raises `InputError`.
    """
    kind = kind_of(path)
    if kind is None:
        raise InputError(
            f"{path}: expected a .csv or .jsonl file of problems, or .tsv, .json, .parquet, each also as .gz"
        )
    data = _read(path)
    try:
        if kind == "parquet":
            return _parquet_rows(data)
        text = _decoded(data)
        if kind == "json":
            return _json_rows(text)
        return list(_csv_rows(text, columns) if kind == "csv" else _jsonl_rows(text))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give the file of problems in it")
        size = path.stat().st_size
        if size <= _MAX_FILE_BYTES:
            opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
            with opener(path, "rb") as file:
                data: bytes = file.read(_MAX_FILE_BYTES + 1)
            size = len(data)
        if size > _MAX_FILE_BYTES:
            raise InputError(
                f"{path}: {size:,} bytes; a file may hold {_MAX_FILE_BYTES:,}, split it"
            )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(f"{path} is not a whole gzip file; fetch it again") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {reason}") from None
    if not data.strip():
        raise InputError(f"{path}: the file is empty")
    return data


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"line {line} is not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"line {line} holds a NUL byte; this is not a text file")
    return text


def _csv_rows(text: str, columns: Collection[str]) -> Iterator[Row]:
    # The limit is the module's own state; every file we read may use it up to our own limit.
    csv.field_size_limit(MAX_STATEMENT_BYTES)
    delimiter = _delimiter(text, columns)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    header: list[str] | None = None
    line = 1
    try:
        for fields in reader:
            if header is None and fields:
                header = [name.strip() for name in fields]
                _refuse_repeated(header)
            elif header is not None and fields:
                if len(fields) != len(header):
                    raise InputError(
                        f"line {line} has {len(fields)} fields, the header has {len(header)}; put"
                        f" statements that hold {_DELIMITERS[delimiter]} or line breaks in double quotes"
                    )
                yield line, dict(zip(header, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise InputError(too_long(line)) from None
        raise InputError(f"line {line} is not CSV: {error}") from None


def _delimiter(text: str, columns: Collection[str]) -> str:
    """What separates the header's names: with it, one of them is among `columns`."""
    header = text.lstrip("\r\n").split("\n", 1)[0]
    for delimiter in _DELIMITERS:
        names = (name.strip(' "\r').lower() for name in header.split(delimiter))
        if any(name in columns for name in names):
            return delimiter
    return ","


def _jsonl_rows(text: str) -> Iterator[Row]:
    for line, source in enumerate(text.split("\n"), start=1):
        if source.strip():
            yield line, _object(_parsed(source, f"line {line}"), f"line {line}")


def _json_rows(text: str) -> list[Row]:
    """An array of objects, also as the only list in an object; else the file may hold JSON lines."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return list(_jsonl_rows(text))
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        raise InputError("expected an array of JSON objects, each with a problem")
    return [(place, _object(row, f"row {place}")) for place, row in enumerate(value, start=1)]


def _parsed(source: str, where: str) -> object:
    try:
        return json.loads(source)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "cannot be read"
        raise InputError(f"{where} is not JSON: {reason}") from None


def _object(row: object, where: str) -> dict[str, object]:
    if not isinstance(row, dict):
        raise InputError(f"{where} is not a JSON object with a problem")
    try:
        _refuse_repeated(list(row))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return row


def _parquet_rows(data: bytes) -> list[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"Parquet needs pyarrow: {install('pyarrow')}, or save it as .csv"
        ) from None
    try:
        rows = parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"is not Parquet: {first_line(error)}") from None
    return [(place, _object(row, f"row {place}")) for place, row in enumerate(rows, start=1)]


def _refuse_repeated(names: list[str]) -> None:
    lowered = [name.strip().lower() for name in names if name.strip()]
    if repeated := next((name for name in lowered if lowered.count(name) > 1), None):
        raise InputError(f"column {repeated!r} is there twice; keep one")


def too_long(line: int) -> str:
    """What is said of a statement that is too long."""
    return f"line {line}: a statement may be {MAX_STATEMENT_BYTES:,} bytes long, this is longer"
