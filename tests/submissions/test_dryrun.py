"""Whole rehearsals in real process trees, on a scripted solver."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars
import pytest

from solver.engines.vllm.process import free_port
from solver.errors import InputError
from solver.files.problems import load_problems
from submissions.checking import answers_in, private_score
from submissions.dryrun import main, run_faults
from submissions.faults import random_faults
from submissions.rehearsal import rehearse
from submissions.rowlog import Answered, Noted
from submissions.timeline import timeline_of
from tests.support.submissions import AIMO3, plan, problems_file, processes_of


def handed_out(run) -> list[str]:  # type: ignore[no-untyped-def]
    return [entry.problem_id for entry in run.log if isinstance(entry, Answered)]


@pytest.mark.parametrize("shuffled", [False, True])
def test_every_row_is_answered_in_either_order(tmp_path: Path, shuffled: bool) -> None:
    file = problems_file(tmp_path / "p.csv", range(100, 112))
    run = rehearse(plan(tmp_path, file, shuffled=shuffled), 1)
    problems = load_problems(file)
    assert run_faults(run, problems, AIMO3) == []
    assert run.submission is not None
    assert answers_in(run.submission) == {f"p{i}": 100 + i for i in range(12)}
    order = [f"p{i}" for i in range(12)]
    assert (handed_out(run) == order) is not shuffled
    assert sorted(handed_out(run)) == sorted(order)
    frame = polars.read_parquet(run.submission)
    assert frame.schema == {"id": polars.String, "answer": polars.Int64}
    assert processes_of(tmp_path) == []


def test_answers_stay_outside_of_the_submission(tmp_path: Path) -> None:
    secret = 987_654_321_012
    file = problems_file(tmp_path / "p.csv", [7])
    file.write_text(
        file.read_text().replace(",7\n", f",{secret}\n").replace(",7\r", f",{secret}\r")
    )
    assert str(secret) in file.read_text()
    run = rehearse(plan(tmp_path, file), 1)
    seen = [path for path in run.folder.rglob("*") if path.is_file()]
    assert len(seen) > 5
    assert not [path for path in seen if str(secret).encode() in path.read_bytes()]


def test_a_third_argument_is_taken_and_never_written_down(tmp_path: Path) -> None:
    secret = 987_654_321_012
    file = problems_file(tmp_path / "p.csv", [7])
    file.write_text(
        file.read_text().replace(",7\n", f",{secret}\n").replace(",7\r", f",{secret}\r")
    )
    run = rehearse(plan(tmp_path, file, with_answers=True), 1)
    assert run.submission is not None
    assert answers_in(run.submission) == {"p0": 7}
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if str(secret).encode() in path.read_bytes()]


def test_strange_statements_are_rows_like_any_other(tmp_path: Path) -> None:
    statements = {
        "empty": "",
        "latex": r"Let $\sum_{i=1}^{n} \frac{1}{i}$ \\ be \textbf{odd}. What is 41?",
        "emoji": "🍎 + 🍏 = 二, é\u0301 is 42?",
        "huge": "9" * 4000 + " mod 43?",
        "long": "x" * 999_000 + " 44?",
    }
    file = tmp_path / "p.csv"
    polars.DataFrame({"id": list(statements), "problem": list(statements.values())}).write_csv(file)
    run = rehearse(plan(tmp_path, file, limit_s=60.0), 1)
    assert run_faults(run, load_problems(file), AIMO3) == []
    assert run.submission is not None
    answers = answers_in(run.submission)
    assert answers == {"empty": 0, "latex": 41, "emoji": 42, "huge": 43, "long": 44}


def test_the_limit_ends_everything_and_leaves_no_file(tmp_path: Path) -> None:
    file = problems_file(tmp_path / "p.csv", range(5))
    stubborn = ("python3", "-c", "import time, signal; signal.signal(15, 1); time.sleep(99)")
    run = rehearse(plan(tmp_path, file, command=stubborn, limit_s=1.5), 1)
    assert run.submission is None
    assert run.failure is not None and "never started" in run.failure
    assert processes_of(tmp_path) == []


def test_a_submission_that_ends_is_noticed(tmp_path: Path) -> None:
    file = problems_file(tmp_path / "p.csv", range(5))
    run = rehearse(plan(tmp_path, file, command=("false",), limit_s=100.0), 1)
    assert run.failure == "server never started: the process ended"


def test_faults_cost_time_but_no_row(tmp_path: Path) -> None:
    file = problems_file(tmp_path / "p.csv", range(100, 110))
    faults = "slow-start,crash@2,hang@4,raise@6,exit@7:launch,stall@8"
    run = rehearse(plan(tmp_path, file, faults=faults, limit_s=20.0, shuffled=False), 1)
    assert run_faults(run, load_problems(file), AIMO3) == []
    timeline = timeline_of(run.log)
    assert timeline.started_s is not None and timeline.started_s > 2.0
    rows = {row.number: row for row in timeline.answered}
    assert len(rows) == 10
    assert rows[2].degraded[0] == "solver lost: crashed"
    assert "silent" in rows[4].degraded[0]
    assert "InjectedError" in rows[6].degraded[0]
    assert rows[7].degraded[0] == "solver lost: crashed"
    assert rows[8].how == "fallback" and rows[8].degraded[0] == "time is up"
    assert rows[2].lost_s > 0 and timeline.lost_s >= rows[2].lost_s
    # All but the stalled one had time left after their fault, and went on with it.
    assert [rows[i].answer for i in (1, 2, 3, 4, 5, 6, 7, 10)] == [
        100, 101, 102, 103, 104, 105, 106, 109,
    ]  # fmt: skip
    assert processes_of(tmp_path) == []


# Kaggle's package from outside: a server at a port of its own, and a gateway that finds it there.
PACKAGE = """
import os, sys
from pathlib import Path
from submissions.gateway import Gateway, rows_of
from submissions.standin import InferenceServer

PORT, KEY = {port}, b"0"
USE_PRIVATE_SET = False

class AIMO3InferenceServer(InferenceServer):
    def __init__(self, predict):
        super().__init__(predict)
        self._port, self._key = PORT, KEY

class AIMO3Gateway:
    def __init__(self, paths):
        self.path = Path(paths[0])

    def run(self):
        import kaggle_evaluation.aimo_3_gateway as module
        assert "KAGGLE_IS_COMPETITION_RERUN" not in os.environ
        rows = rows_of(self.path, shuffle=None if module.USE_PRIVATE_SET else 5)
        Gateway(rows, Path.cwd()).run(PORT, KEY)
"""


@pytest.mark.parametrize("shuffled", [False, True])
def test_kaggles_own_package_is_driven_where_it_is_given(tmp_path: Path, shuffled: bool) -> None:
    package = tmp_path / "package" / "kaggle_evaluation"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("aimo_3_gateway", "aimo_3_inference_server"):
        (package / f"{name}.py").write_text(PACKAGE.format(port=free_port()))
    source = (package / "aimo_3_gateway.py").read_text()
    (package / "aimo_3_inference_server.py").write_text(source)
    file = problems_file(tmp_path / "p.csv", range(100, 106))
    run = rehearse(plan(tmp_path, file, package=package.parent, shuffled=shuffled), 1)
    assert run_faults(run, load_problems(file), AIMO3) == []
    assert (handed_out(run) == [f"p{i}" for i in range(6)]) is not shuffled
    assert processes_of(tmp_path) == []


def test_a_stale_server_is_refused_before_it_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = problems_file(tmp_path / "p.csv", [1])
    with socket.create_server(("127.0.0.1", 0)) as stale:
        monkeypatch.setattr("submissions.rehearsal.GATEWAY_PORT", stale.getsockname()[1])
        with pytest.raises(InputError, match="would be tested instead"):
            rehearse(plan(tmp_path, file, package=tmp_path), 1)


def chaos(folder: Path, seed: int) -> tuple[list[str], int]:
    """50 problems at 1/600 of five hours, with faults wherever the seed puts them: what is wrong, right."""
    folder.mkdir()
    file = problems_file(folder / "p.csv", range(200, 250))
    faults = ",".join(map(str, random_faults(seed, 50, 4)))
    run = rehearse(plan(folder, file, limit_s=30.0, speed=600.0, faults=faults), 1)
    problems = load_problems(file)
    found = run_faults(run, problems, AIMO3)
    if run.took_s > 30.0:
        found.append(f"took {run.took_s:.1f} s")
    found += processes_of(folder)
    answers = answers_in(run.submission) if run.submission is not None else {}
    right = sum(answers.get(problem.id) == problem.answer for problem in problems)
    return [f"seed {seed} ({faults}): {fault}" for fault in found], right


def test_chaos_never_costs_a_row(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(lambda seed: chaos(tmp_path / f"{seed:02}", seed), range(20)))
    assert [fault for faults, _ in runs for fault in faults] == []
    assert sum(right for _, right in runs) > 0.5 * 20 * 50


def test_scores_of_two_runs_are_those_of_the_private_board(tmp_path: Path) -> None:
    problems = load_problems(problems_file(tmp_path / "p.csv", [1, 2, 3, 4]))
    one = {"p0": 1, "p1": 2, "p2": 0, "p3": 0}
    two = {"p0": 1, "p1": 0, "p2": 3}
    score = private_score(problems, [one, two], None)
    assert score is not None
    assert score.value == 2.0
    assert 0.5 <= score.low < 2.0 < score.high <= 3.5


def test_the_command_reports_and_fails_when_there_is_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = problems_file(tmp_path / "p.csv", [1])
    notebook = tmp_path / "broken.ipynb"
    notebook.write_text("{}")
    code = main([str(file), "--limit", "20s", "--runs", "1", "--notebook", str(notebook),
                 "--out", str(tmp_path / "out")])  # fmt: skip
    output = capsys.readouterr().out
    assert code == 1
    assert "FAULT: server never started" in output
    assert "FAULT: there is no submission file" in output
    assert "valid files: 0 of 1" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "no such file"),
        (["p.csv", "--inject", "melt@3"], "write kind@problem"),
        (["p.csv", "--speed", "inf"], "--speed inf: give a number from 1 on"),
        (["p.csv", "--with-answers", "--gateway", "."], "--with-answers is of the stand-in"),
        (["p.csv", "--limit", "0s"], "give a time above 0"),
        (["p.csv", "--notebook", "missing.ipynb"], "no such notebook"),
        (["p.csv", "--gateway", "."], "holds no folder kaggle_evaluation"),
        (["p.csv", "--competition", "aimo1"], "aimo1 has no gateway"),
        (["p.csv", "--competition", "imo"], "unknown competition"),
        (["p.csv", "--set", "prune.lunch=3"], "unknown key"),
        (["p.csv", "--runs", "0"], "'--runs'"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    problems_file(tmp_path / "p.csv", [1])
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_used_folder_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = problems_file(tmp_path / "p.csv", [1])
    (tmp_path / "out" / "run-1" / "input").mkdir(parents=True)
    (tmp_path / "out" / "run-1" / "working").mkdir()
    assert main([str(file), "--out", str(tmp_path / "out")]) == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("model.path=not-attached", "no model 'not-attached'"),
        ("prune.lanch=3", "unknown key 'prune.lanch'"),
        ("prune.keep=9", "keep (9) is larger than launch (4)"),
    ],
)
def test_a_rerun_answers_every_row_whatever_is_wrong(
    tmp_path: Path, setting: str, reason: str
) -> None:
    file = problems_file(tmp_path / "p.csv", [11, 12])
    subject = plan(tmp_path, file)
    run = rehearse(replace(subject, sets=(*subject.sets, setting)), 1)
    assert run_faults(run, load_problems(file), AIMO3) == []
    assert run.submission is not None
    assert answers_in(run.submission) == {"p0": 0, "p1": 0}
    notes = [entry.what for entry in run.log if isinstance(entry, Noted)]
    assert any(note.startswith("WARNING: every answer will be the fallback: ") for note in notes)
    assert any(reason in note for note in notes)
