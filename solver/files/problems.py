"""Reads problems from CSV or JSONL files, strictly, and writes answers in one step.

A file that could be misread is refused with one line that says where and why. A problem with an empty
statement is not refused.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from solver.errors import InputError
from solver.files.whole import write_whole
from solver.types import Problem

MAX_STATEMENT_BYTES = 1_000_000
_MAX_FILE_BYTES = 64_000_000
_STATEMENT_COLUMNS = ("problem", "question", "statement", "prompt")
# Tables that once held a blank answer come back from spreadsheets with "42.0" for 42.
_INTEGER = re.compile(r"\s*([+-]?\d{1,18})(?:\.0*)?\s*", re.ASCII)

_Row = tuple[int, dict[str, object]]  # line number, column -> value


def load_problems(path: Path) -> list[Problem]:
    """The problems of a `.csv` or `.jsonl` file, in its order, or `InputError`."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".json-lines"):
        raise InputError(f"{path}: expected a .csv or .jsonl file of problems")
    text = _read(path)
    try:
        rows = list(_csv_rows(text) if suffix == ".csv" else _jsonl_rows(text))
        problems = [_problem(row, line) for line, row in rows]
        _refuse_duplicates(problems, [line for line, _ in rows])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not problems:
        raise InputError(f"{path}: the file holds no problems")
    return problems


def require_run_folder(folder: Path) -> None:
    """Raise `InputError` unless `folder` is that of a run."""
    if not any((folder / name).is_file() for name in ("journal.jsonl", "config.json")):
        raise InputError(f"{folder} is not a run folder; a run prints its folder at its end")


def problems_copy(run: Path) -> Path:
    """The copy of its problems file that the run folder `run` holds. Raises `InputError`."""
    require_run_folder(run)
    for name in ("problems.csv", "problems.jsonl"):
        if (run / name).is_file():
            return run / name
    raise InputError(f"{run} lacks its copy of the problems (problems.csv or problems.jsonl)")


def problems_of_run(run: Path) -> list[Problem]:
    """The problems of the run folder `run`. Raises `InputError`."""
    return load_problems(problems_copy(run))


def write_answers(path: Path, rows: Iterable[tuple[str, int]]) -> None:
    """Write `id,answer` lines; `path` holds all of them or is what it was before."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "answer"))
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give the file of problems in it")
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise InputError(
                f"{path}: {size:,} bytes; a file may hold {_MAX_FILE_BYTES:,}, split it"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {reason}") from None
    if not data.strip():
        raise InputError(f"{path}: the file is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}: line {line} holds a NUL byte; this is not a text file")
    return text


def _csv_rows(text: str) -> Iterator[_Row]:
    # The limit is the module's own state; every file we read may use it up to our own limit.
    csv.field_size_limit(MAX_STATEMENT_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for fields in reader:
            if header is None and fields:
                header = [name.strip() for name in fields]
                _check_columns(header)
            elif header is not None and fields:
                if len(fields) != len(header):
                    raise InputError(
                        f"line {line} has {len(fields)} fields, the header has {len(header)};"
                        " put statements that hold commas or line breaks in double quotes"
                    )
                yield line, dict(zip(header, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise InputError(_too_long(line)) from None
        raise InputError(f"line {line} is not CSV: {error}") from None


def _jsonl_rows(text: str) -> Iterator[_Row]:
    for line, source in enumerate(text.split("\n"), start=1):
        if not source.strip():
            continue
        try:
            row = json.loads(source)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "cannot be read"
            raise InputError(f"line {line} is not JSON: {reason}") from None
        if not isinstance(row, dict):
            raise InputError(f"line {line} is not a JSON object with an id and a problem")
        try:
            _check_columns(list(row))
        except InputError as error:
            raise InputError(f"line {line}: {error}") from None
        yield line, row


def _check_columns(names: list[str]) -> None:
    lowered = [name.strip().lower() for name in names if name.strip()]
    if repeated := next((name for name in lowered if lowered.count(name) > 1), None):
        raise InputError(f"column {repeated!r} is there twice; keep one")
    if "id" not in lowered:
        raise InputError("no column 'id'; every problem needs one")
    found = [name for name in _STATEMENT_COLUMNS if name in lowered]
    if not found:
        raise InputError(f"no problem column; name one of {', '.join(_STATEMENT_COLUMNS)}")
    if len(found) > 1:
        raise InputError(f"columns {' and '.join(found)} could each be the problem; keep one")


def _problem(row: Mapping[str, object], line: int) -> Problem:
    values = {name.strip().lower(): value for name, value in row.items()}
    column = next(name for name in _STATEMENT_COLUMNS if name in values)
    taken = {"", "id", "answer", column}
    return Problem(
        id=_id(values["id"], line),
        statement=_statement(values[column], column, line),
        answer=_answer(values.get("answer"), line),
        tags={
            name.strip(): _text(value if isinstance(value, str) else json.dumps(value), line)
            for name, value in row.items()
            if name.strip().lower() not in taken
        },
    )


def _id(value: object, line: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InputError(f"line {line}: the id must be a text or an integer")
    if not value.strip():
        raise InputError(f"line {line}: the id is empty")
    if any(character in value for character in "\n\r"):
        raise InputError(f"line {line}: the id holds a line break")
    return _text(value, line)


def _statement(value: object, column: str, line: int) -> str:
    if not isinstance(value, str):
        raise InputError(f"line {line}: {column!r} must be a text")
    statement = _text(value, line)
    if len(statement.encode()) > MAX_STATEMENT_BYTES:
        raise InputError(_too_long(line))
    return statement


def _answer(value: object, line: int) -> int | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    match = None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        match = _INTEGER.fullmatch(str(value))
    if match is None:
        raise InputError(
            f"line {line}: the answer {str(value)[:40]!r} is not an integer; leave it blank if unknown"
        )
    return int(match[1])


def _text(value: str, line: int) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"line {line} holds half a character (a lone surrogate)") from None
    if "\0" in value:
        raise InputError(f"line {line} holds a NUL character")
    return value


def _too_long(line: int) -> str:
    return f"line {line}: a statement may be {MAX_STATEMENT_BYTES:,} bytes long, this is longer"


def _refuse_duplicates(problems: list[Problem], lines: list[int]) -> None:
    seen: dict[str, int] = {}
    for problem, line in zip(problems, lines, strict=True):
        if problem.id in seen:
            raise InputError(
                f"the id {problem.id[:40]!r} is on line {seen[problem.id]} and again on line {line}"
            )
        seen[problem.id] = line
