"""Every command line of README.md and docs/*.md is run, or is left out for a reason that stands here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from solver.wheels.manifest import make_manifest, write_manifest
from tests.support.wheels import make_wheel

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("python", ".venv-vllm/bin/python", "pip", "make", "kaggle", "stop-solver")

# What is not run, by what the command contains, and why. Of those of ours the options are read all the same,
# and of `make` the targets.
LEFT_OUT = {
    "make ": "installs, or runs what CI runs",
    "pip install": "needs a package index",
    "kaggle ": "needs an account",
    "submissions.matrix": "starts the solver forty times; tests/e2e/test_matrix.py does some of it",
    "notebook wheelhouse": "downloads gigabytes; test_offline.py makes one",
    ".venv-vllm": "needs vLLM; make test-vllm runs it",
    "vllm.entrypoints": "needs vLLM; make test-vllm runs it",
    "adapter.vllm.serving": "needs vLLM; make test-vllm runs it",
    "weakest": "needs a package of the reader's; test_extending.py makes it",
    "--serve ": "serves until it is interrupted; tests/report does",
    "stop collect": "takes minutes",
    "solver.stop train": "takes minutes",
    "stop evaluate": "takes hours",
    "solver.stop ablate": "takes hours",
    "solver.stop convert": "needs somebody's checkpoint",
    "solver.stop publish": "needs rollouts that were scored; tests/stop/test_evaluate.py makes them",
    "solver.stop restore": "needs published rollouts; tests/stop/test_evaluate.py makes them",
    "solver.stop transfer": "needs rollouts that were scored; tests/stop/test_evaluate.py makes them",
    "prune.adapter=adapters/": "needs an adapter that was trained",
    "vote.adapter=adapters/": "needs an adapter that was trained",
    "--ray ": "needs a cluster; tests/distributed has one",
    "--shard 3/16": "needs sixteen problems; tests/cli/test_shards.py runs shards",
    "merge ": "needs every shard; tests/cli/test_shards.py makes them",
    "$": "is part of a script that a batch system runs",
    "sandbox check": "tries the sandbox for a minute; tests/sandbox does",
    "sandbox mcp": "serves until it is interrupted; tests/sandbox does",
}
# What a model, a server or a GPU is needed for is run as well, and refused because of that alone.
REFUSED = ("/path/to/", "FOLDER")


def commands(document: Path) -> Iterator[str]:
    """The command lines in the code blocks of a document, continued lines in one."""
    lines = iter(document.read_text("utf-8").splitlines())
    fence = ""
    for line in lines:
        if line.startswith("```"):
            fence = "" if fence else line
        if not (fence == "```sh" or line.startswith("    ")):
            continue
        words = line.strip()
        if not words.startswith(tuple(f"{name} " for name in PROGRAMS)):
            continue
        while words.endswith("\\"):
            words = words[:-1] + next(lines).strip()
        yield re.split(r"\s+#", words)[0].replace("[--", "--").removesuffix("]")


def why_left_out(command: str) -> str | None:
    return next((why for word, why in LEFT_OUT.items() if word in f"{command} "), None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents assume: problems, runs, wheels, files."""
    place = tmp_path_factory.mktemp("clone")
    (place / "examples").mkdir()
    lines = (ROOT / "examples" / "problems.csv").read_text("utf-8").splitlines(keepends=True)
    for name in ("problems.csv", "examples/problems.csv"):
        (place / name).write_text("".join(lines[:3]), encoding="utf-8")
    (place / "cells.py").write_text("print(1)\n")
    (place / "wheels").mkdir()
    make_wheel(place / "wheels", "six", "1.17.0")
    write_manifest(place / "wheels", make_manifest(place / "wheels", "six", "3.12", (), ("pip",)))
    run(place, "python -m solver.run problems.csv --record full --run-dir runs/ID")
    for name in ("A", "B"):
        shutil.copytree(place / "runs" / "ID", place / "runs" / name)
    return place


def run(place: Path, command: str, expected: int = 0) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command.replace("FILE...", "cells.py"))
    words[:1] = [sys.executable, *(["-m", "solver"] if words[0] == "stop-solver" else [])]
    if "submissions.notebook build" in command:
        words += ["--out", "notebook"]
    done = subprocess.run(
        words, cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == expected, f"{command}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return done


@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_command_lines_do_what_they_say(document: Path, place: Path) -> None:
    for command in commands(document):
        if why_left_out(command):
            continue
        if any(word in command for word in REFUSED):
            told = run(place, command, expected=1 if "doctor" in command else 2)
            assert "o such option" not in told.stderr
        else:
            (place / "answers.csv").unlink(missing_ok=True)  # a reader keeps or replaces them
            if "--run-dir runs/full" in command:
                shutil.rmtree(place / "runs" / "full", ignore_errors=True)
            run(place, command)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_options_of_what_is_left_out_exist(document: Path, tmp_path: Path) -> None:
    for command in commands(document):
        if why_left_out(command) and command.startswith("make "):
            targets = [word for word in command.split()[1:] if "=" not in word]
            done = subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, capture_output=True)
            assert done.returncode == 0, command
        elif why_left_out(command) and re.search(
            r"python -m (solver|sandbox|submissions)\b|^stop-solver", command
        ):
            run(tmp_path, f"{command} --help")


def test_every_reason_is_needed() -> None:
    found = [f"{command} " for document in DOCUMENTS for command in commands(document)]
    assert len(found) > 40
    for word, why in LEFT_OUT.items():
        assert any(word in command for command in found), f"{word}: {why}"
