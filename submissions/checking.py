"""Checks a submission file, and scores the files of two runs as Kaggle's private leaderboard does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from solver.config import AnswerConfig
from solver.journal.summary import is_correct
from solver.policy.statistics import Interval, mean_interval
from solver.types import Problem
from submissions.frames import frame_library

_TEXTS = ("String", "Utf8", "str", "string", "object")
_INTEGERS = ("Int64", "int64")
_SHOWN = 3


def read_submission(path: Path) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """The columns of a parquet file, and the names of their types, both by column name."""
    frame = frame_library().read_parquet(path)
    columns = {str(name): frame[name].to_list() for name in frame.columns}
    return columns, {name: str(frame[name].dtype) for name in columns}


def file_faults(path: Path | None, ids: Sequence[str], answers: AnswerConfig) -> list[str]:
    """The faults of a submission for the problems `ids`; empty if it is valid."""
    if path is None or not path.is_file():
        return ["there is no submission file"]
    try:
        columns, types = read_submission(path)
    except Exception as error:  # parquet readers raise errors of many types
        return [f"the file cannot be read: {error}"]
    if list(columns) != ["id", "answer"]:
        return [f"columns are {list(columns)}, not id and answer"]
    faults = []
    if types["id"] not in _TEXTS:
        faults.append(f"id is {types['id']}, not text")
    if types["answer"] not in _INTEGERS:
        return [*faults, f"answer is {types['answer']}, not 64-bit integers"]
    counts = Counter(columns["id"])
    faults += _some("missing", [one for one in ids if one not in counts])
    faults += _some("unknown", [one for one in counts if one not in set(ids)])
    faults += _some("repeated", [one for one, number in counts.items() if number > 1])
    outside = [a for a in columns["answer"] if not answers.minimum <= a <= answers.maximum]
    return faults + _some(f"outside {answers.minimum}:{answers.maximum}", outside)


def answers_in(path: Path) -> dict[str, int]:
    """The answers of a valid file, by id."""
    columns, _ = read_submission(path)
    return dict(zip(columns["id"], columns["answer"], strict=True))


def private_score(
    problems: Sequence[Problem], runs: Sequence[Mapping[str, int]], modulus: int | None
) -> Interval | None:
    """Points as on the private leaderboard: a problem counts the share of runs that have it right.

    So two runs give 1, 0.5 or 0. A sum over the problems whose answers are known, with its 95 %
    bootstrap interval over problems; None if no answer is known.
    """
    known = [problem for problem in problems if problem.answer is not None]
    if not known or not runs:
        return None
    shares = [
        sum(p.id in run and is_correct(run[p.id], p, modulus) for run in runs) / len(runs)
        for p in known
    ]
    mean, count = mean_interval(shares), len(known)
    return Interval(mean.value * count, mean.low * count, mean.high * count)


def _some(what: str, values: Sequence[object]) -> list[str]:
    if not values:
        return []
    shown = ", ".join(ascii(value)[:40] for value in values[:_SHOWN])
    more = ", ..." if len(values) > _SHOWN else ""
    return [f"{len(values)} {what}: {shown}{more}"]
