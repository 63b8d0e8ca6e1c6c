"""Files of problems as people have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from solver.config import AnswerConfig
from solver.files.problems import ProblemsFile, read_problems
from solver.types import Problem
from tests.reading.cases import of

ONE = {  # what the words of the cases mean, by the case's expectation
    "answer 336": Problem("1", "x", 336),
    "read, or a line that names the separator": Problem("1", "two, three", 2),
    "id from the line, answer 70 (GSM8K as it is)": Problem("1", "x", 70),
    "answer 70": Problem("a", "x", 70),
    "the text is the problem": Problem("AIME24I-1", "Full text", 204),
    "solved, not scored, and one line says so": Problem("1", "x", None),
    "one line: outside of the answer range 0:99999": Problem("1", "x", None),
}


def read(case: dict[str, Any], folder: Path) -> ProblemsFile:
    path = folder / f"p.{case['kind']}"
    path.write_text(case["input"], encoding="utf-8")
    return read_problems(path, AnswerConfig())


def check(case: dict[str, Any], folder: Path) -> None:
    file = read(case, folder)
    assert file.problems == [ONE[case["expected"]]]
    assert ("one line" in case["expected"]) == (file.note is not None)
    if "outside" in case["expected"]:
        assert file.note is not None and "outside of the answer range 0:99999" in file.note


@of("csv")
def test_csv(case: dict[str, Any], tmp_path: Path) -> None:
    check(case, tmp_path)


@of("jsonl")
def test_jsonl(case: dict[str, Any], tmp_path: Path) -> None:
    check(case, tmp_path)
