"""Traces: the text of every trajectory, in steps, and what happens to too much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from solver.journal.events import RunResumed
from solver.report.decode import Decoder
from solver.report.source import RunSource
from solver.report.traces import LONGEST_PIECE, pieces, traces
from solver.types import StopReason
from tests.report.builders import MARK, RunBuilder


def steps(run: RunBuilder, name: str = "a") -> dict[int, list[dict[str, Any]]]:
    folder = run.write()
    problem = RunSource(folder).history.problems[name]
    prompt, found = traces(folder / "journal.jsonl", problem, Decoder(run.model))
    assert prompt == "<|user|>\nsolve it"
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunBuilder:
    return RunBuilder(tmp_path / "run", [("a", "?", 4)])


def test_steps_of_a_trajectory(run: RunBuilder) -> None:
    run.plays("a", (4, 5), 4, said="so \\(x^2\\):")
    first = steps(run)[0]
    assert [step["k"] for step in first] == ["said", "code", "output", "said"]
    before, mark, after, formula, colon = first[0]["x"]
    assert (before, mark, after) == ("x" * MARK, {"mark": 1}, "so ")
    assert (formula["s"], colon) == ("\\(x^2\\)", ":")
    assert first[1]["x"] == ["print(2 + 2)"]
    assert (first[2]["x"], first[2]["st"]) == (["4\n"], "ok")
    assert first[3]["x"] == ["Hence \\boxed{4}.<|end|>"]


def test_a_mark_inside_the_code_stands_before_it(run: RunBuilder) -> None:
    run.start("a")
    run.says("a", 0, "go\n```python\npri")
    run.ends("a", 0, StopReason.MARK, MARK)
    run.says("a", 0, "nt(1)\n```\n")
    run.runs("a", 0, "print(1)", "1\n")
    said, code, _ = steps(run)[0]
    assert said["x"] == ["go", {"mark": 1}]
    assert code["x"] == ["print(1)"]


def test_each_mark_stands_where_it_was(run: RunBuilder) -> None:
    run.halves("a")
    found, half = steps(run), "x" * MARK
    assert found[0][0]["x"] == [half, {"mark": 1}, half, {"mark": 2}, "\\boxed{4}<|end|>"]
    assert found[2][0]["x"] == [half, {"mark": 1}]


def test_code_that_is_not_in_the_text_is_shown_all_the_same(run: RunBuilder) -> None:
    run.start("a")
    run.says("a", 0, "no code here")
    run.runs("a", 0, "1/0", "", stderr="ZeroDivisionError", status="error")
    said, code, output = steps(run)[0]
    assert (said["x"], code["x"]) == (["no code here"], ["1/0"])
    assert (output["err"], output["st"]) == (["ZeroDivisionError"], "error")


def test_a_forced_answer(run: RunBuilder) -> None:
    run.start("a")
    run.says("a", 0, "hm")
    run.forces("a", 0)
    run.says("a", 0, "4}")
    assert [(s["k"], s["x"]) for s in steps(run)[0]] == [
        ("said", ["hm"]),
        ("forced", ["The answer is "]),
        ("said", ["4}"]),
    ]


def test_what_was_begun_again_is_shown_once(run: RunBuilder) -> None:
    run.start("a")
    run.says("a", 0, "lost")
    run.says("a", 1, "kept")
    run.ends("a", 1, StopReason.ANSWERED, 4)
    run.add(RunResumed(created="2025-01-02T03:04:05+00:00"))
    run.start("a")
    run.says("a", 0, "anew")
    found = steps(run)
    assert [s["x"] for s in found[0]] == [["anew"]]
    assert [s["x"] for s in found[1]] == [["kept"]]


def test_characters_cut_by_the_mark_are_whole(run: RunBuilder) -> None:
    run.start("a")
    run.says("a", 0, "12345678")
    run.events[-1].token_ids.extend([*map(int, _bytes("é"))][:1])
    run.ends("a", 0, StopReason.MARK, 9)
    run.says("a", 0, "x")
    run.events[-1].token_ids[:0] = [*_bytes("é")][1:]
    (said,) = steps(run)[0]
    assert "".join(p for p in said["x"] if isinstance(p, str)).endswith("éx")


def _bytes(character: str) -> list[int]:
    from tests.report.builders import ids

    return ids(character)


def test_long_output_is_cut_in_the_middle_and_says_where_it_is(run: RunBuilder) -> None:
    run.plays("a", (4, 5), 4, output="head" + "o" * 5_000_000 + "tail")
    output = steps(run)[0][2]
    head, cut, tail = output["x"]
    assert head.startswith("head") and tail.endswith("tail")
    assert len(head) + len(tail) == LONGEST_PIECE
    assert cut == {"cut": 5_000_008 - LONGEST_PIECE, "line": output["line"]}
    line = (run.folder / "journal.jsonl").read_text().splitlines()[output["line"] - 1]
    assert '"type":"executed"' in line


def test_without_a_tokenizer_code_and_output_are_still_there(run: RunBuilder) -> None:
    run.plays("a", (4, 5), 4)
    folder = run.write()
    (run.model / "tokenizer.json").unlink()
    decoder = Decoder(run.model)
    assert str(run.model / "tokenizer.json") in decoder.missing
    problem = RunSource(folder).history.problems["a"]
    prompt, found = traces(folder / "journal.jsonl", problem, decoder)
    assert prompt is None
    assert [step["k"] for step in found[0]] == ["ids", "code", "output", "ids"]
    assert found[0][0]["n"] > MARK


def test_a_broken_tokenizer_says_so(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    assert "cannot be read" in Decoder(tmp_path).missing
    assert Decoder(tmp_path).texts([[1]]) is None


def test_ids_that_no_tokenizer_has(run: RunBuilder) -> None:
    assert Decoder(run.model).texts([[-1]]) is None


def test_pieces_keep_to_the_limit() -> None:
    assert pieces("", 1) == []
    assert pieces("x" * 10, 1, longest=10) == ["x" * 10]
    assert pieces("x" * 11, 7, longest=4) == ["xx", {"cut": 7, "line": 7}, "xx"]
    assert pieces("xyz", 7, longest=0) == [{"cut": 3, "line": 7}]
