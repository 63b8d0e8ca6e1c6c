"""The matrix of faults on the scripted worker: no row is lost, and each says what it lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from submissions.matrix import CASES, MIXES, OWN_MOUNTS, ROWS, Case, can_mount, main
from tests.support.submissions import problems_file, processes_of

RIGHT = list(range(100, 100 + ROWS))
# Mixes run elsewhere on more rows (test_dryrun.py), zygotes and servers where there are any.
SCRIPTED = [case for case in CASES if not case.needs and not case.name.startswith("mix ")]
MAY_LOSE = {"limit of 2 s": ROWS}  # rows without a vote


def rehearsed(case: Case, folder: Path) -> dict[str, Any]:
    mounts = OWN_MOUNTS if case.small_disk else ()
    script = Path(__file__).with_name("matrix_case.py")
    done = subprocess.run(
        [*mounts, sys.executable, script, case.name, folder], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", SCRIPTED, ids=lambda case: case.name.replace(" ", "-"))
def test_a_fault_costs_no_row(tmp_path: Path, case: Case) -> None:
    if case.small_disk and not can_mount():
        pytest.skip("no small disk can be mounted here")
    told = rehearsed(case, tmp_path)
    assert told["faults"] == []
    if case.file:
        assert len(told["rows"]) == ROWS + (2 if case.strange else 0)
        right = sum(answer in RIGHT for _, answer, _ in told["rows"])
        assert right >= ROWS - MAY_LOSE.get(case.name, 0), told["rows"]
    if case.name == "nothing is wrong":
        assert not any(reasons for *_, reasons in told["rows"])
    if case.name == "notebook frozen":
        reasons = [reason for *_, reasons in told["rows"] for reason in reasons]
        assert not any("silent" in reason for reason in reasons), "the worker was not"
    assert processes_of(tmp_path) == []


def test_a_notebook_that_is_killed_is_reported(tmp_path: Path) -> None:
    (case,) = (case for case in CASES if not case.file)
    told = rehearsed(case, tmp_path)
    assert told["failure"] == "server connection failed: the server's process ended"
    assert len(told["rows"]) == 1


def test_there_is_a_case_for_everything_that_is_promised() -> None:
    struck = {fault.split("@")[0] for case in CASES for fault in case.faults.split(",")}
    parts = {f"{how}-{part}" for how in ("kill", "freeze")
             for part in ("guard", "zygote", "server", "notebook")}  # fmt: skip
    assert parts | {"crash", "freeze", "full-disk"} <= struck
    assert {case.limit_s for case in CASES} >= {2.0, 25.0, 120.0}
    assert sum(case.name.startswith("mix ") for case in CASES) == MIXES == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "no such file"),
        (["p.csv", "--only", "earthquake"], "no case is called so"),
        (["p.csv", "--gateway", "."], "holds no folder kaggle_evaluation"),
        (["p.csv", "--set", "prune.lunch=3"], "unknown key"),
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
    assert message in captured.err and captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
