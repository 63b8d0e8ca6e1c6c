"""Reading problems and writing answers. What is refused is in tests/cli/test_bad_input.py."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.errors import InputError
from solver.files.problems import load_problems, write_answers
from solver.types import Problem

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
IDS = TEXT.filter(lambda text: text.strip() and not set("\n\r") & set(text))
PROBLEMS = st.lists(
    st.builds(
        Problem,
        id=IDS,
        statement=TEXT,
        answer=st.none() | st.integers(-(10**17), 10**17),
        tags=st.fixed_dictionaries({"source": TEXT}),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda problem: problem.id,
)


def save(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@given(problems=PROBLEMS, column=st.sampled_from(["problem", "Question", " STATEMENT", "prompt"]))
def test_csv_round_trip(problems: list[Problem], column: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("source", "ID", column, "Answer"))
    for p in problems:
        writer.writerow((p.tags["source"], p.id, p.statement, p.answer))
    with tempfile.TemporaryDirectory() as folder:
        assert load_problems(save(Path(folder), "p.csv", text.getvalue())) == problems


@given(problems=PROBLEMS, ascii_only=st.booleans())
def test_jsonl_round_trip(problems: list[Problem], ascii_only: bool) -> None:
    lines = [
        json.dumps(
            {"id": p.id, "problem": p.statement, "answer": p.answer, **p.tags},
            ensure_ascii=ascii_only,
        )
        for p in problems
    ]
    with tempfile.TemporaryDirectory() as folder:
        assert load_problems(save(Path(folder), "p.jsonl", "\n".join(lines))) == problems


@pytest.mark.parametrize(
    "content",
    [
        "id,problem\na,What is $1+1$?\n",
        "\ufeffid,problem\na,What is $1+1$?\n",
        "id,problem\r\na,What is $1+1$?\r\n",
        "\n\nid,problem\n\na,What is $1+1$?\n\n",
        ",id,problem\n0,a,What is $1+1$?\n",
        "id,problem\na,What is $1+1$?",
    ],
)
def test_forms_of_csv(content: str, tmp_path: Path) -> None:
    assert load_problems(save(tmp_path, "P.CSV", content)) == [Problem("a", "What is $1+1$?")]


def test_statements_of_many_kinds(tmp_path: Path) -> None:
    content = (
        'id,problem,level\n1,"Let $\\frac{a}{b}$, ""quoted"",\nover lines 🙂",hard\n'
        '2,"",easy\n3,"' + "x" * 1_000_000 + '",easy\n'
    )
    first, second, third = load_problems(save(tmp_path, "p.csv", content))
    assert first.statement == 'Let $\\frac{a}{b}$, "quoted",\nover lines 🙂'
    assert first.tags == {"level": "hard"}
    assert second.statement == ""
    assert len(third.statement) == 1_000_000


@pytest.mark.parametrize(
    ("written", "answer"),
    [("42", 42), (" 42 ", 42), ("-3", -3), ("+3", 3), ("0042", 42), ("42.0", 42), ("", None)],
)
def test_answers(written: str, answer: int | None, tmp_path: Path) -> None:
    path = save(tmp_path, "p.csv", f"id,problem,answer\na,x,{written}\n")
    assert load_problems(path)[0].answer == answer


def test_json_values(tmp_path: Path) -> None:
    row = {"id": 7, "question": "x\u2028y", "answer": 42.0, "n": 3, "deep": {"a": [None]}}
    path = save(tmp_path, "p.jsonl", json.dumps(row, ensure_ascii=False) + "\r\n\n")
    (problem,) = load_problems(path)
    assert problem == Problem("7", "x\u2028y", 42, {"n": "3", "deep": '{"a": [null]}'})


@given(rows=st.lists(st.tuples(IDS, st.integers()), max_size=5))
def test_answers_round_trip(rows: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.csv"
        write_answers(path, rows)
        with path.open(encoding="utf-8", newline="") as file:
            read = list(csv.reader(file))
        assert read == [["id", "answer"], *([id_, str(answer)] for id_, answer in rows)]
        assert [entry.name for entry in Path(folder).iterdir()] == ["answers.csv"]


def test_a_write_that_fails_leaves_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, "answers.csv", "precious")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("solver.files.whole.os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_answers(path, [("a", 1)])
    assert path.read_text() == "precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["answers.csv"]
