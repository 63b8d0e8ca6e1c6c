"""Reading problems and writing answers. What is refused is in tests/cli/test_bad_input.py."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.config import AnswerConfig
from solver.errors import InputError
from solver.files.problems import (
    Selection,
    load_problems,
    read_problems,
    write_answers,
    write_problems,
)
from solver.files.whole import write_whole
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


# Files as people have them

RULE = AnswerConfig()
JSON = {"id": "a", "problem": "What is it?", "answer": "42"}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"question": "Q?", "answer": "So 9*2=<<9*2=18>>18.\n#### 1,018"},
            Problem("1", "Q?", 1018),
        ),
        (
            {
                "problem": "Q?",
                "solution": "S",
                "answer": "\\frac{10}{2}",
                "unique_id": "test/a/7.json",
            },
            Problem("test/a/7.json", "Q?", 5, {"solution": "S"}),
        ),
        (
            {"id": 60, "problem": "Q?", "answer": "204", "url": "u"},
            Problem("60", "Q?", 204, {"url": "u"}),
        ),
        ({"problem_idx": 3, "problem": "Q?", "answer": 70}, Problem("3", "Q?", 70)),
        ({"id": "x", "problem": "Q?", "final_answer": ["7"]}, Problem("x", "Q?", 7)),
        ({"id": "x", "prompt": "Q?", "expected_answer": "$12\\text{ cm}$"}, Problem("x", "Q?", 12)),
        ({"id": "x", "problem": "Q?", "answer": None}, Problem("x", "Q?", None)),
        ({"id": "x", "problem": 4, "question": "Q?"}, Problem("x", "Q?", None)),
        (
            {"ID": "c-7", "Body": "I have 2.", "Question": "Q?"},
            Problem("c-7", "I have 2.\nQ?", None),
        ),
        ({"id": "x", "problem": "Q?", "body": 4}, Problem("x", "Q?", None, {"body": "4"})),
        ({"id": "x", "problem": "Q?", "prompt": "Q?"}, Problem("x", "Q?", None)),
    ],
)
def test_rows_as_they_are_published(
    row: dict[str, object], problem: Problem, tmp_path: Path
) -> None:
    lines = json.dumps(row) + "\n"
    files = {
        "p.jsonl": lines.encode(),
        "p.jsonl.gz": gzip.compress(lines.encode()),
        "p.json": json.dumps([row], indent=1).encode(),
        "lines.json": lines.encode(),
        "split.json": json.dumps({"version": 1, "data": [row]}).encode(),
    }
    for name, content in files.items():
        assert load_problems(save(tmp_path, name, content)) == [problem], name


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist([{**JSON, "year": 2025}, {**JSON, "id": "b", "answer": None}])
    parquet.write_table(table, tmp_path / "p.parquet")
    assert load_problems(tmp_path / "p.parquet") == [
        Problem("a", "What is it?", 42, {"year": "2025"}),
        Problem("b", "What is it?", None, {"year": "null"}),
    ]
    with pytest.raises(InputError, match="is not Parquet"):
        load_problems(save(tmp_path, "q.parquet", b"PAR1 no more"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.csv.gz"])
def test_separators(delimiter: str, name: str, tmp_path: Path) -> None:
    row = (
        delimiter.join(("id", "problem", "answer"))
        + "\n"
        + delimiter.join(("1", "two three", "2"))
        + "\n"
    )
    content = gzip.compress(row.encode()) if name.endswith(".gz") else row.encode()
    assert load_problems(save(tmp_path, name, content)) == [Problem("1", "two three", 2)]


def test_without_ids_problems_are_named_by_their_lines(tmp_path: Path) -> None:
    path = save(tmp_path, "p.csv", 'problem,answer\n"a\nb",1\nc,2\n')
    assert [problem.id for problem in load_problems(path)] == ["2", "4"]
    path = save(tmp_path, "p.jsonl", '{"question": "a"}\n\n{"question": "b"}\n')
    assert [problem.id for problem in load_problems(path)] == ["1", "3"]


@pytest.mark.parametrize(
    "answer", ["seven", "7.5", "080 or 081", "9" * 5000, "3x = 15", "100000", "-1"]
)
def test_an_answer_that_cannot_be_scored_is_noted(answer: str, tmp_path: Path) -> None:
    path = save(tmp_path, "p.csv", f"id,problem,answer\na,x,{answer}\nb,y,\nc,z,3\n")
    file = read_problems(path, RULE)
    assert [problem.answer for problem in file.problems] == [None, None, 3]
    assert file.note is not None and file.note.startswith(
        "1 of 3 problems are solved and not scored"
    )
    assert "answer range 0:99999" in file.note and f"line 2, {answer[-40:]!r}" in file.note


def test_only_what_is_solved_is_counted(tmp_path: Path) -> None:
    path = save(tmp_path, "p.csv", "id,problem,answer\na,x,seven\nb,y,1\nc,z,eight\n")
    file = read_problems(path, RULE, Selection(limit=2))
    assert [problem.id for problem in file.problems] == ["a", "b"]
    assert file.note is not None and file.note.startswith("1 of 2 problems")
    assert read_problems(path, RULE, Selection(ids=("b",))).note is None


def test_the_modulus_comes_before_the_range(tmp_path: Path) -> None:
    path = save(tmp_path, "p.csv", "id,problem,answer\na,x,336000\n")
    file = read_problems(path, AnswerConfig(modulus=1000, maximum=999))
    assert file.note is None and file.problems[0].answer == 336000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.json", b'"x"', "an array of JSON objects"),
        ("p.json", b"[1]", "row 1 is not a JSON object"),
        ("p.json", b"[", "line 1 is not JSON"),
        ("p.csv.gz", b"id,problem", "not a whole gzip file"),
        ("p.csv.gz", gzip.compress(b"id,problem\n1,x\n", mtime=0)[:-9], "not a whole gzip file"),
        ("p.csv", b"id|problem\n1|x\n", "no problem column"),
        ("p.csv", b"id;problem\n1;x;y\n", "statements that hold semicolons"),
        ("p.gz", b"x", "expected a .csv"),
    ],
)
def test_what_is_refused(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        load_problems(save(tmp_path, name, content))


@given(problems=PROBLEMS)
def test_what_is_written_is_read_again(problems: list[Problem]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problems.jsonl"
        write_problems(path, problems)
        assert load_problems(path) == problems


@pytest.mark.parametrize("name", ["problem", "Problem"])
def test_a_number_of_the_problem_survives_the_copy_of_a_run(name: str, tmp_path: Path) -> None:
    content = f"{name},question,level\n12,What is 1 + 1?,3\n"
    problems = load_problems(save(tmp_path, "p.csv", content.encode()))
    assert [(p.statement, p.tags) for p in problems] == [("What is 1 + 1?", {"level": "3"})]
    copy = tmp_path / "copy.jsonl"
    write_problems(copy, problems)
    assert load_problems(copy) == problems


def test_half_a_character_in_the_name_of_a_column(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1 holds half a character"):
        load_problems(save(tmp_path, "p.jsonl", b'{"problem": "a b", "\\ud800": "x"}\n'))


def test_a_file_that_a_killed_process_left_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getpid", lambda: 7)  # in a container, the next process has it again
    (tmp_path / ".answers.csv.7.tmp").write_text("half")
    write_whole(tmp_path / "answers.csv", "id,answer\n")
    assert (tmp_path / "answers.csv").read_text() == "id,answer\n"


def test_selection() -> None:
    problems = [Problem(str(i), "x") for i in range(50)]
    assert Selection().of(problems) == problems
    assert [p.id for p in Selection(ids=("7", "3"), limit=1).of(problems)] == ["3"]
    shuffled = Selection(shuffle=1, limit=10).of(problems)
    assert shuffled == Selection(shuffle=1).of(problems)[:10] != problems[:10]
    assert shuffled != Selection(shuffle=2, limit=10).of(problems)
    with pytest.raises(InputError, match="'99'"):
        Selection(ids=("1", "99")).of(problems)
