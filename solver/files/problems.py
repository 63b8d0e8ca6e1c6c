"""Reads problems from the files that people have, strictly, and writes answers in one step.

A file that could be misread is refused with one line that says where and why. A problem with an
empty statement is not refused.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from solver.config import AnswerConfig
from solver.errors import InputError
from solver.files.rows import MAX_STATEMENT_BYTES, Row, read_rows, too_long
from solver.files.shards import Shard
from solver.files.whole import write_whole
from solver.policy.integers import read_integer
from solver.types import Problem

_STATEMENTS = ("problem", "question", "statement", "prompt")
_BODY = "body"  # what SVAMP and ASDiv tell before the question, in a column of its own
_IDS = ("id", "unique_id", "problem_id", "problem_idx")
_ANSWERS = ("answer", "expected_answer", "final_answer")
_LETTER = re.compile(r"[^\W\d_]")
_GSM8K = re.compile(r"####\s*(.*)\s*\Z")  # where its solutions keep the answer


@dataclass(frozen=True, slots=True)
class ProblemsFile:
    """The problems of a file, and one line about known answers that cannot be scored, if there are any.

    Without `has_ids` the problems have the numbers of their lines.
    """

    problems: list[Problem]
    note: str | None = None
    has_ids: bool = True


@dataclass(frozen=True, slots=True)
class Selection:
    """Which problems of a file are solved: those named, shuffled, the first so many, a shard of these."""

    ids: tuple[str, ...] = ()
    shuffle: int | None = None  # the seed
    limit: int | None = None
    shard: Shard | None = None

    def of(self, problems: Sequence[Problem]) -> list[Problem]:
        """The selected ones, by default in the file's order.

        Raises `InputError` for an id that is not there, and for a shard without a problem.
        """
        if missing := set(self.ids) - {problem.id for problem in problems}:
            raise InputError(f"no problem has the id {min(missing)[:40]!r}")
        chosen = [problem for problem in problems if not self.ids or problem.id in self.ids]
        if self.shuffle is not None:
            random.Random(self.shuffle).shuffle(chosen)
        chosen = chosen[: self.limit]
        return chosen if self.shard is None else self.shard.part(chosen)


EVERY_PROBLEM = Selection()


def load_problems(path: Path) -> list[Problem]:
    """The problems of a file, in its order, or `InputError`; answers that are no integers are unknown."""
    return read_problems(path).problems


def read_problems(
    path: Path, rule: AnswerConfig | None = None, selection: Selection = EVERY_PROBLEM
) -> ProblemsFile:
    """The selected problems of a .csv, .tsv, .jsonl, .json or .parquet file, also .gz, or `InputError`.

    Which column is the problem is decided by what it holds; a `body` beside it comes first. Known
    answers are read as a model's are, also behind `####`; those that are no integer, or none in range
    under `rule`, are left out and noted. A problem without an id has the number of its line (of its
    row, where the file has no lines).
    """
    rows = read_rows(path, _STATEMENTS)
    try:
        if not rows:
            raise InputError("the file holds no problems")
        lowered = [(line, _lowered(row)) for line, row in rows]
        column = _statement_column(lowered)
        problems = [_problem(row, line, column, rule) for line, row in rows]
        _refuse_duplicates(problems, [line for line, _ in rows])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    chosen = selection.of(problems)
    ids = {problem.id for problem in chosen}
    solved = [(*row, p) for row, p in zip(lowered, problems, strict=True) if p.id in ids]
    has_ids = any(name in row for _, row in lowered for name in _IDS)
    return ProblemsFile(chosen, _unscored(solved, rule), has_ids)


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


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write JSON lines that `load_problems` reads as these problems."""
    write_whole(path, problem_lines(problems))


def problem_lines(problems: Iterable[Problem]) -> str:
    """Problems as the JSON lines of a file; equal problems make equal lines."""
    lines = []
    for problem in problems:
        row = {"id": problem.id, "problem": problem.statement, "answer": problem.answer}
        lines.append(json.dumps({**problem.tags, **row}, ensure_ascii=False) + "\n")
    return "".join(lines)


def _lowered(row: Mapping[str, object]) -> dict[str, object]:
    return {name.strip().lower(): value for name, value in row.items()}


def _statement_column(rows: Sequence[Row]) -> str:
    """The one column that holds statements; numbers in a column `problem` are none."""
    found = [name for name in _STATEMENTS if any(name in row for _, row in rows)]
    if len(found) > 1:
        found = [name for name in found if any(_is_text(row.get(name)) for _, row in rows)] or found
    if len(found) > 1 and all(
        row.get(name) == row.get(found[0]) for _, row in rows for name in found
    ):
        found = found[:1]
    if len(found) > 1:
        raise InputError(f"columns {' and '.join(found)} could each be the problem; keep one")
    for line, row in rows:
        if not found or found[0] not in row:
            names = ", ".join(_STATEMENTS)
            raise InputError(f"line {line}: no problem column; name one of {names}")
    return found[0]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and _LETTER.search(value) is not None


def _problem(
    row: Mapping[str, object], line: int, column: str, rule: AnswerConfig | None
) -> Problem:
    values = _lowered(row)
    named_by = next((name for name in _IDS if name in values), None)
    answered_by = next((name for name in _ANSWERS if name in values), None)
    # a number in a column `problem` is no tag: in a copy it would stand beside the statement
    taken = {
        "",
        named_by,
        answered_by,
        *_STATEMENTS,
        _BODY if _is_text(values.get(_BODY)) else None,
    }
    return Problem(
        id=_id(values[named_by], line) if named_by is not None else str(line),
        statement=_statement(values, column, line),
        answer=_answer(values, rule),
        tags={
            _text(name.strip(), line): _text(
                value if isinstance(value, str) else _shown(value), line
            )
            for name, value in row.items()
            if name.strip().lower() not in taken
        },
    )


def _shown(value: object) -> str:
    return json.dumps(value, default=str)


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


def _statement(values: Mapping[str, object], column: str, line: int) -> str:
    value, body = values[column], values.get(_BODY)
    if not isinstance(value, str):
        raise InputError(f"line {line}: {column!r} must be a text")
    statement = _text(f"{body}\n{value}" if _is_text(body) else value, line)
    if len(statement.encode()) > MAX_STATEMENT_BYTES:
        raise InputError(too_long(line))
    return statement


def _given(values: Mapping[str, object]) -> str:
    """The known answer as the file writes it; empty if it gives none."""
    value = next((values[name] for name in _ANSWERS if name in values), None)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return "" if value is None else str(value).strip()


def _answer(values: Mapping[str, object], rule: AnswerConfig | None) -> int | None:
    given = _given(values)
    if behind := _GSM8K.search(given):
        given = behind[1]
    value = read_integer(given)
    if value is None or rule is None:
        return value
    in_range = value if rule.modulus is None else value % rule.modulus
    return value if rule.minimum <= in_range <= rule.maximum else None


def _unscored(
    solved: Sequence[tuple[int, dict[str, object], Problem]], rule: AnswerConfig | None
) -> str | None:
    """What is said of the known answers that are left out of the score."""
    left_out = [
        (line, _given(row))
        for line, row, problem in solved
        if problem.answer is None and _given(row)
    ]
    if not left_out:
        return None
    line, given = left_out[0]
    outside = f" or outside of the answer range {rule.minimum}:{rule.maximum}" if rule else ""
    return (
        f"{len(left_out)} of {len(solved)} problems are solved and not scored: their known answers are"
        f" no integers{outside} (first: line {line}, {given[-40:]!r})"
    )


def _text(value: str, line: int) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"line {line} holds half a character (a lone surrogate)") from None
    if "\0" in value:
        raise InputError(f"line {line} holds a NUL character")
    return value


def _refuse_duplicates(problems: list[Problem], lines: list[int]) -> None:
    seen: dict[str, int] = {}
    for problem, line in zip(problems, lines, strict=True):
        if problem.id in seen:
            raise InputError(
                f"the id {problem.id[:40]!r} is on line {seen[problem.id]} and again on line {line}"
            )
        seen[problem.id] = line
