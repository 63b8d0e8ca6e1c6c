"""The package of docs/extending.md, installed by pip: its scorer decides a run, and a replay of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from solver.journal.recorded_run import load
from tests.test_extending import blocks

EXAMPLES = Path(__file__).parents[2] / "examples" / "problems.csv"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package was installed into."""
    source, target = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("installed")
    [module], [project] = blocks("A scorer", "python"), blocks("A scorer", "toml")
    (source / "weakest.py").write_text(module, encoding="utf-8")
    (source / "pyproject.toml").write_text(project, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    done = subprocess.run(
        [*command, *offline, str(source)], capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    return target


def python(installed: Path, *arguments: str) -> str:
    """What the command prints, with the package on the path. The screen is wide enough for names."""
    environment = os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "250"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_name_is_known(installed: Path) -> None:
    told = python(installed, "solver.run", "--help")
    assert "random, none, weakest" in " ".join(told.split())  # wherever the line breaks


def test_it_decides_a_run_and_a_replay(installed: Path, tmp_path: Path) -> None:
    problems, run = tmp_path / "problems.csv", tmp_path / "run"
    problems.write_text("".join(EXAMPLES.read_text("utf-8").splitlines(keepends=True)[:2]))
    flags = ["--launch", "6", "--keep", "2", "--scorer", "weakest", "--record", "full", "--quiet"]
    where = ["--run-dir", str(run), "--output", str(tmp_path / "answers.csv")]
    python(installed, "solver.run", str(problems), *flags, *where)

    [record] = load(run).problems
    [checked] = record.checks
    assert checked.error is None
    assert checked.method == "weakest" and len(checked.dropped) > 0
    for index, score in checked.scores.items():
        logprobs = record.trajectories[index].trajectory.logprobs[:32]
        assert score == pytest.approx(min(logprobs))
    lowest_kept = min(checked.scores[index] for index in checked.kept)
    assert lowest_kept >= max(checked.scores[index] for index in checked.dropped)

    sweep = ["--sweep", "scorer=weakest,confidence,none", "launch=4,6", "keep=2"]
    table = python(installed, "solver.replay", str(run), *sweep)
    assert table.count("| weakest ") == 2
    assert "weakest" in python(installed, "solver.replay", str(run), "--counterfactuals")
