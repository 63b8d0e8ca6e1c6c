"""Shards of a run, and the run that they are together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from solver.journal.events import RunEnded, RunStarted, Solved
from solver.journal.reader import read_journal
from solver.merge import main as merge
from solver.run import main


def solve_shard(shard: str, *more: str) -> int:
    name = shard.replace("/", "-of-")
    return main(["problems.csv", "--shard", shard, "--run-dir", f"runs/{name}", "--quiet", *more])


@pytest.fixture
def shards(problems: Path, stubs: Any) -> list[str]:
    """Three problems solved in two shards."""
    assert solve_shard("1/2") == solve_shard("2/2") == 0
    return ["runs/2-of-2", "runs/1-of-2"]


def test_shards_together_are_the_run(shards: list[str], folder: Path) -> None:
    assert (folder / "answers.1-of-2.csv").read_text() == "id,answer\na,1\nc,3\n"
    assert (folder / "answers.2-of-2.csv").read_text() == "id,answer\nb,2\n"
    assert merge([*shards, "--run-dir", "runs/all"]) == 0
    assert main(["problems.csv", "--run-dir", "runs/one", "--output", "one.csv"]) == 0
    assert (folder / "answers.csv").read_text() == (folder / "one.csv").read_text()
    both = [
        json.loads((folder / f"runs/{name}/summary.json").read_text()) for name in ("all", "one")
    ]
    for name in ("elapsed_s", "tokens_per_s"):
        assert [numbers.pop(name) for numbers in both]
    assert both[0] == both[1]
    events = read_journal(folder / "runs/all/journal.jsonl").events
    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunEnded)
    assert events[0].problem_ids == ["a", "b", "c"]
    assert {event.problem_id for event in events if isinstance(event, Solved)} == {"a", "b", "c"}
    times = [event.t for event in events]
    assert times == sorted(times)
    assert main(["--resume", "runs/all"]) == 0, "it is a run folder like any other"


def test_a_shard_is_taken_from_what_is_selected(problems: Path, stubs: Any) -> None:
    assert solve_shard("2/2", "--limit", "2", "--ids", "b,c") == 0
    assert stubs.solved == ["c"]


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3"])
def test_what_is_no_shard(
    shard: str, problems: Path, stubs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["problems.csv", f"--shard={shard}"]) == 2
    assert "write i/n with i from 1 to n" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_shard_without_a_problem(
    problems: Path, stubs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["problems.csv", "--shard", "4/4"]) == 2
    assert "3 problems make no 4 shards" in capsys.readouterr().err


def test_runs_that_are_no_shards_are_merged_as_they_are_given(
    problems: Path, stubs: Any, folder: Path
) -> None:
    for name in ("c", "a"):
        assert main(
            ["problems.csv", "--ids", name, "--run-dir", f"runs/{name}", "--output", f"{name}.csv"]
        ) == 0  # fmt: skip
    assert merge(["runs/c", "runs/a", "--run-dir", "runs/all"]) == 0
    assert (folder / "answers.csv").read_text() == "id,answer\nc,3\na,1\n"


class TestRefused:
    @pytest.fixture
    def says(self, capsys: pytest.CaptureFixture[str], folder: Path) -> Any:
        def run(*arguments: str) -> str:
            capsys.readouterr()
            assert merge([*arguments, "--run-dir", "runs/all"]) == 2
            said = capsys.readouterr()
            assert said.out == "" and said.err.count("\n") == 1
            assert not (folder / "runs/all").exists() and not (folder / "answers.csv").exists()
            return said.err

        return run

    def test_a_missing_shard(self, shards: list[str], says: Any) -> None:
        assert "of 2 shards these are missing: 2" in says("runs/1-of-2")

    def test_a_problem_that_is_there_twice(self, shards: list[str], says: Any) -> None:
        assert "the problem 'b' is in runs/2-of-2 and in" in says(*shards, "runs/2-of-2")

    def test_other_settings(self, shards: list[str], says: Any) -> None:
        assert main(["problems.csv", "--shard", "1/2", "--run-dir", "runs/seed", "--seed", "3",
                     "--output", "seed.csv"]) == 0  # fmt: skip
        assert "seed differs between runs/2-of-2 and runs/seed" in says("runs/2-of-2", "runs/seed")

    def test_other_problems(self, shards: list[str], says: Any, folder: Path) -> None:
        (folder / "problems.csv").write_text("id,problem\nd,say 1\ne,say 2\nf,say 3\n")
        assert main(["problems.csv", "--shard", "1/2", "--run-dir", "runs/o", "--output", "o"]) == 0
        assert "are shards of other problems" in says("runs/2-of-2", "runs/o")

    def test_a_run_that_is_no_shard(self, shards: list[str], says: Any) -> None:
        assert main(["problems.csv", "--ids", "b", "--run-dir", "runs/b", "--output", "b.csv"]) == 0
        assert "runs/b is no shard, and runs/1-of-2 is one" in says("runs/1-of-2", "runs/b")

    def test_a_run_that_is_not_finished(self, shards: list[str], says: Any, folder: Path) -> None:
        journal = folder / "runs/1-of-2/journal.jsonl"
        lines = [line for line in journal.read_text().splitlines(True) if '"solved"' not in line]
        journal.write_text("".join(lines))
        assert "2 of 2 problems have no answer yet; go on with --resume" in says(*shards)

    def test_no_run_folder(self, says: Any) -> None:
        assert "runs/none is not a run folder" in says("runs/none")


def test_the_merged_answers_replace_nothing_unasked(
    shards: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "answers.csv").write_text("mine")
    assert merge(shards) == 2
    assert "use --force" in capsys.readouterr().err
    assert merge([*shards, "--force"]) == 0
    assert (folder / "answers.csv").read_text() != "mine"
