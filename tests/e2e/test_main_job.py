"""The main job for real: the embedded model, real Jupyter kernels, the command as users start it."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from solver.journal.events import Ended, Executed, Sampled
from solver.journal.reader import read_journal
from solver.types import StopReason
from tests.support.command import (
    EXAMPLES,
    assert_gone,
    children,
    rows,
    run,
    solved,
    some_problems,
    started,
    tokens,
    wait_for_solved,
)


def ended(run_folder: Path) -> dict[tuple[str, int], StopReason]:
    return {
        (event.problem_id, event.index): event.stop_reason
        for event in read_journal(run_folder / "journal.jsonl").events
        if isinstance(event, Ended)
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of four problems, 24 -> 8."""
    folder = tmp_path_factory.mktemp("first")
    problems = some_problems(folder, 4)
    done = run(problems, "--output", folder / "answers.csv", "--run-dir", folder / "run")
    assert done.returncode == 0, done.stderr
    assert "score:" in done.stdout
    return folder


def test_a_run_leaves_answers_journal_and_summary(first: Path) -> None:
    answers = rows(first / "answers.csv")
    assert [row["id"] for row in answers] == [row["id"] for row in rows(first / "some.csv")]
    summary = json.loads((first / "run" / "summary.json").read_text())
    assert (summary["launch"], summary["keep"], summary["num_problems"]) == (24, 8, 4)
    assert summary["sampled_tokens"] > 4 * 24 * summary["mark"] * 0.9
    assert summary["num_answered"] == 4
    assert not summary["degraded"]


def test_tools_ran_in_real_kernels(first: Path) -> None:
    events = read_journal(first / "run" / "journal.jsonl").events
    executed = [event for event in events if isinstance(event, Executed)]
    assert len(executed) > 4 * 8
    assert sum(event.result.status == "ok" for event in executed) > 0.9 * len(executed)


def test_no_sampled_token_is_encoded_twice(first: Path) -> None:
    """What is encoded is the prompt, tool outputs, and the last id before each pause."""
    for event in read_journal(first / "run" / "journal.jsonl").events:
        if isinstance(event, Sampled) and event.reused_tokens:
            assert event.encoded_tokens < 200
    resumed = [
        event
        for event in read_journal(first / "run" / "journal.jsonl").events
        if isinstance(event, Sampled) and event.reused_tokens > 60
    ]
    assert resumed


def test_the_same_seed_gives_the_same_answers_and_tokens(first: Path, tmp_path: Path) -> None:
    """A trajectory that the vote made superfluous may be cut elsewhere: one begins with the other."""
    again = run(
        first / "some.csv", "--output", tmp_path / "answers.csv", "--run-dir", tmp_path / "run"
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "answers.csv").read_bytes() == (first / "answers.csv").read_bytes()
    ones, others = tokens(first / "run"), tokens(tmp_path / "run")
    reasons = [ended(first / "run"), ended(tmp_path / "run")]
    assert ones.keys() == others.keys()
    for key, one in ones.items():
        other = others[key]
        if StopReason.CONSENSUS in (reasons[0][key], reasons[1][key]):
            length = min(len(one), len(other))
            one, other = one[:length], other[:length]
        assert one == other, key


def test_another_seed_gives_other_tokens(first: Path, tmp_path: Path) -> None:
    problems = some_problems(tmp_path, 1)
    done = run(
        problems, "--output", tmp_path / "a.csv", "--run-dir", tmp_path / "run", "--seed", 1,
        "--launch", 2, "--keep", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ones, others = tokens(first / "run"), tokens(tmp_path / "run")
    assert all(others[key] != ones[key] for key in others)


def test_one_alone_is_the_first_of_the_many(first: Path, tmp_path: Path) -> None:
    """Batch-independent: the company in the batch only moves log-probabilities by rounding noise.

    A token may differ only where the random draw falls into that noise (a numeric tie), which does
    not happen in these fixed problems and seeds.
    """
    done = run(
        first / "some.csv", "--output", tmp_path / "a.csv", "--run-dir", tmp_path / "run",
        "--launch", 1, "--keep", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    alone, many = tokens(tmp_path / "run"), tokens(first / "run")
    assert len(alone) == 4
    for key, one in alone.items():
        length = min(len(one), len(many[key]))
        assert length >= 30
        assert one[:length] == many[key][:length]


def test_a_time_limit_gives_every_row(tmp_path: Path) -> None:
    """That rows come in time is tested in virtual time (tests/faults/test_time.py)."""
    done = run(
        EXAMPLES, "--output", tmp_path / "a.csv", "--run-dir", tmp_path / "run", "--time-limit", "8s",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "a.csv")) == 30
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["degraded"]


def test_a_limit_that_ends_while_the_model_loads_gives_every_row_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    limit = ("--time-limit", "1.5s")
    with started(
        EXAMPLES, "--output", tmp_path / "a.csv", "--run-dir", tmp_path / "run", *limit
    ) as process:
        below: set[psutil.Process] = set()
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                below |= set(children(process))
            time.sleep(0.01)
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
        assert_gone(list(below), timeout=30)
    assert [row["answer"] for row in rows(tmp_path / "a.csv")] == ["0"] * 30
    assert "no time: the model was still loading" in output


def test_kill_9_and_resume_loses_nothing(first: Path, tmp_path: Path) -> None:
    problems = first / "some.csv"
    folder = tmp_path / "run"
    with started(problems, "--output", tmp_path / "a.csv", "--run-dir", folder) as process:
        wait_for_solved(folder, 1, process)
        kernels = children(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_gone(kernels)
    journal = folder / "journal.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"type":"sampled","t":1.0,"problem')  # torn in the middle of a line
    before = [event.problem_id for event in solved(folder)]

    done = run("--resume", folder)
    assert done.returncode == 0, done.stderr
    after = [event.problem_id for event in solved(folder)]
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == 4, "no finished problem is solved again"
    assert (tmp_path / "a.csv").read_bytes() == (first / "answers.csv").read_bytes()


def test_ctrl_c_votes_writes_and_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with started(EXAMPLES, "--output", tmp_path / "a.csv", "--run-dir", folder) as process:
        wait_for_solved(folder, 1, process)
        kernels = children(process)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 130, errors
        assert_gone(kernels)
    assert len(rows(tmp_path / "a.csv")) == 30
    assert "--resume" in output
    assert "Traceback" not in errors


def test_an_unfamiliar_statement_is_answered_and_said(tmp_path: Path) -> None:
    problems = tmp_path / "p.csv"
    problems.write_text("id,problem\na,Find the remainder when 7^{2024} is divided by 100.\nb,\n")
    done = run(
        problems, "--output", tmp_path / "a.csv", "--run-dir", tmp_path / "run", "--launch", 4,
        "--keep", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--model PATH" in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert "outside" in summary["degraded"]["a"][0]
    assert len(rows(tmp_path / "a.csv")) == 2
