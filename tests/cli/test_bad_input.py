"""Bad input gets one clear line on stderr and exit code 2, and nothing is written or overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from solver.run import main

GOOD = b"id,problem\na,say 1\n"


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if _is_small(path) else None
        for path in sorted(folder.rglob("*"))
    }


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < 1 << 30


@pytest.fixture
def refused(folder: Path, stubs: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command, which must refuse; returns what it said."""

    def run(*arguments: str) -> str:
        before = tree(folder)
        assert main(list(arguments)) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("error: ")
        assert output.err.count("\n") == 1, output.err
        assert "Traceback" not in output.err
        after = {name: data for name, data in tree(folder).items() if name != "runs"}
        assert after == before
        return output.err

    return run


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"\xef\xbb\xbf", "no problems"),
        (b"id,problem\n", "no problems"),
        (b"id,text\n1,x\n", "no problem column"),
        (b"id,problem,Question\n1,x,y\n", "problem and question"),
        (b"id,ID,problem\n1,2,x\n", "'id' is there twice"),
        (b"id,problem\na,x\nb,y\na,z\n", "line 2 and again on line 4"),
        (b"id,problem\n,x\n", "line 2: the id is empty"),
        (b"id,problem\n  ,x\n", "line 2: the id is empty"),
        (b'id,problem\n"a\nb",x\n', "line break"),
        (b"id,problem\na,caf\xe9\n", "line 2 is not UTF-8"),
        ("id,problem\na,x\n".encode("utf-16"), "not UTF-8"),
        (b"id,problem\na,x\0y\n", "line 2 holds a NUL"),
        (b"id,problem\na," + b"x" * 10_000_000 + b"\n", "line 2: a statement may be 1,000,000"),
        (
            b"id,problem\na," + "é".encode() * 600_000 + b"\n",
            "line 2: a statement may be 1,000,000",
        ),
        (b"id,problem\na,x,y\n", "line 2 has 3 fields"),
        (b'id,problem\nb,y\na,"never closed\n', "line 3 is not CSV"),
    ],
)
def test_bad_csv(content: bytes, says: str, folder: Path, refused: Callable[..., str]) -> None:
    (folder / "bad.csv").write_bytes(content)
    assert says in refused("bad.csv")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"id": "a", "problem": "x"}\n{"id": "b", "prob', "line 2 is not JSON"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (b"[1, 2]\n", "line 1 is not a JSON object"),
        (b'{"id": "a"}\n', "line 1: no problem column"),
        (b'{"id": null, "problem": "x"}\n', "line 1: the id must be"),
        (b'{"id": true, "problem": "x"}\n', "line 1: the id must be"),
        (b'{"id": "a", "problem": 5}\n', "line 1: 'problem' must be a text"),
        (b'{"id": "a\\u0000", "problem": "x"}\n', "NUL"),
        (b'{"id": "a\\ud800", "problem": "x"}\n', "surrogate"),
        (b'{"id": "a", "problem": "\\ud800"}\n', "surrogate"),
        (b'{"id": "a", "problem": "x", "answer": ' + b"9" * 5000 + b"}\n", "line 1"),
        (b'{"id": "a", "problem": "' + b"x" * 10_000_000 + b'"}\n', "1,000,000 bytes"),
        (b'{"id": 1, "problem": "x"}\n{"id": "1", "problem": "x"}\n', "again on line 2"),
    ],
)
def test_bad_jsonl(content: bytes, says: str, folder: Path, refused: Callable[..., str]) -> None:
    (folder / "bad.jsonl").write_bytes(content)
    assert says in refused("bad.jsonl")


def test_no_file_a_folder_and_another_kind(folder: Path, refused: Callable[..., str]) -> None:
    (folder / "folder.csv").mkdir()
    (folder / "problems.xlsx").write_bytes(GOOD)
    assert "no such file" in refused("missing.csv")
    assert "is a folder" in refused("folder.csv")
    assert "expected a .csv or .jsonl" in refused("problems.xlsx")
    assert "give a file of problems" in refused()
    assert "no such file" in refused("evil\x1b[2J\nname.csv")


def test_a_huge_file_is_refused_without_reading_it(
    folder: Path, refused: Callable[..., str]
) -> None:
    with (folder / "huge.csv").open("wb") as file:
        file.truncate(1 << 40)  # sparse; only its size is looked at
    assert "split it" in refused("huge.csv")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--launch", "4", "--keep", "8"], "keep (8) is larger than launch (4)"),
        (["--mark", "600"], "the mark (600) is larger than max_tokens (400)"),
        (["--launch", "-1"], "prune.launch = -1"),
        (["--set", "prune.stages=[]"], "prune.stages = []: write [mark, keep]"),
        (["--set", "prune.stages=[32, 16]"], "write [mark, keep] for each check"),
        (["--set", "prune.stages=[[32, 16, 8]]"], "write [mark, keep] for each check"),
        (["--set", "prune.stages=[[32, 0]]"], "whole numbers from 1 on"),
        (["--set", "prune.stages=[[32, 1.5]]"], "whole numbers from 1 on"),
        (["--set", "prune.stages=many"], "prune.stages = 'many': write [mark, keep]"),
        (["--set", "prune.stages=[[32, 16], [32, 8]]"], "marks must rise, but 32 follows 32"),
        (["--set", "prune.stages=[[32, 8], [64, 8]]"], "keeps must fall, but 8 follows 8"),
        (["--set", "prune.stages=[[32, 40]]"], "keep (40) is larger than launch (24)"),
        (
            ["--set", "prune.stages=[[32, 16], [900, 8]]"],
            "the mark (900) is larger than max_tokens",
        ),
        (
            ["--mark", "48", "--set", "prune.stages=[[32, 16]]"],
            "prune.mark is 48, and 32 by prune.stages",
        ),
        (["--keep", "0"], "prune.keep = 0"),
        (["--mark", "0"], "prune.mark = 0"),
        (["--seed", "-1"], "seed = -1"),
        (["--modulus", "0"], "answer.modulus = 0"),
        (["--launch", "many"], "--launch"),
        (["--time-limit", "-5s"], "'-5s' is not a duration"),
        (["--time-limit", "0"], "budget.time_limit_s = 0.0"),
        (["--time-limit", "soon"], "'soon' is not a duration"),
        (["--time-limit", "9" * 400], "finite"),
        (["--answer-range", "5"], "'5' is not a range"),
        (["--answer-range", "9:3"], "the answer range 9:3 is empty"),
        (["--preset", "emebdded"], "unknown preset 'emebdded'; the presets are embedded, general"),
        (["--scorer", "confidance"], "did you mean confidence"),
        (
            ["--scorer", "confidence", "--set", "vote.rule=weighted"],
            "vote.rule=weighted weighs votes by chances: choose prune.scorer from probe, reward, stop, stop+",
        ),
        (["--set", "vote.rule=random"], "vote.rule = 'random'"),
        (
            ["--set", "vote.rule=verified", "--set", "model.path=m"],
            "the last check (vote.rule=verified) needs a folder: --set vote.adapter=FOLDER",
        ),
        (
            ["--set", "vote.rule=verified", "--engine", "vllm", "--model", "m"],
            "vote.rule=verified scores trajectories on the in-process engine",
        ),
        (["--set", "model.path=~nosuchuser/m"], "~nosuchuser/m: there is no such home folder"),
        (["--model", "m" * 300], "File name too long"),
        (
            ["--scorer", "confidence", "--set", "prune.adapter=mine"],
            "prune.adapter is not read by the scorer confidence: choose prune.scorer from probe, stop",
        ),
        (
            ["--scorer", "stop", "--set", "prune.reward_model=mine"],
            "prune.reward_model is not read",
        ),
        (["--ids", ""], "--ids names problems, such as a,b,c, not ''"),
        (["--ids", "a,,b"], "--ids names problems"),
        (["--port", "8000"], "--port is of --serve"),
        (["--output", "a" * 300], "File name too long"),
        (["--resume", "r" * 300], "File name too long"),
        (["--set", "prune.lunch=3"], "unknown key 'prune.lunch'; did you mean prune.launch?"),
        (["--set", "launch=3"], "did you mean prune.launch?"),
        (["--set", "qqq.zzz=3"], "sections: seed, model"),
        (["--set", "prune.launch"], "write key=value"),
        (["--set", "prune=3"], "prune is a section"),
        (["--set", "prune.launch=[[1]"], "prune.launch = '[[1]'"),
        (["--set", "sampling.temperature=nan"], "expected a finite number"),
        (["--set", "budget.time_limit_s=-1"], "budget.time_limit_s = -1"),
        (["--set", "model.dtype=float8"], "model.dtype = 'float8'"),
        (["--config", "missing.toml"], "missing.toml: No such file"),
        (["--config", "odd.yaml"], "expected a .toml or .json"),
        (["--config", "bad.toml"], "cannot read the settings in bad.toml"),
        (["--config", "key.toml"], "key.toml: unknown key 'prune.mrak'; did you mean prune.mark?"),
        (["--unknown"], "--unknown"),
        (["extra.csv"], "extra.csv"),
    ],
)
def test_bad_settings(
    flags: list[str], says: str, folder: Path, problems: Path, refused: Callable[..., str]
) -> None:
    (folder / "bad.toml").write_text("prune = [")
    (folder / "key.toml").write_text("[prune]\nmrak = 3\n")
    assert says in refused(str(problems), *flags)


def test_an_output_that_exists_needs_force(
    folder: Path, problems: Path, stubs: Any, refused: Callable[..., str]
) -> None:
    (folder / "answers.csv").write_text("precious")
    assert "--force" in refused(str(problems))
    assert stubs.loads == 0
    assert main([str(problems), "--force"]) == 0
    assert (folder / "answers.csv").read_text() == "id,answer\na,1\nb,2\nc,3\n"


def test_outputs_that_cannot_be(folder: Path, problems: Path, refused: Callable[..., str]) -> None:
    (folder / "taken").mkdir()
    assert "is a folder" in refused(str(problems), "--output", "taken")
    assert "no folder missing" in refused(str(problems), "--output", "missing/answers.csv")
    assert "the problems file" in refused(str(problems), "--output", str(problems), "--force")


def test_a_run_folder_in_use(folder: Path, problems: Path, refused: Callable[..., str]) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").write_text("precious")
    assert "not empty" in refused(str(problems), "--run-dir", "mine")
    assert "cannot make the run folder" in refused(str(problems), "--run-dir", "problems.csv/run")


def test_a_model_that_cannot_be_loaded_leaves_nothing(
    folder: Path, problems: Path, refused: Callable[..., str]
) -> None:
    assert "no such model folder" in refused(str(problems), "--model", "nowhere")
    assert not list((folder / "runs").iterdir())


# Root may write into any folder, so the process gives its rights up; what it imports later must be
# imported before, since a Python that lies in root's home cannot be read any more.
AS_NOBODY = """
import encodings.utf_8_sig, os, sys
from solver.run import main
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("flags", [["--output", "locked/answers.csv"], ["--run-dir", "locked/run"]])
def test_a_read_only_folder(
    flags: list[str], folder: Path, problems: Path, environment: dict[str, str]
) -> None:
    locked = folder / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid() and parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o111)
    folder.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, problems.name, *flags],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: cannot ") and done.stderr.count("\n") == 1
    assert "Permission denied" in done.stderr
    assert not list(locked.iterdir())


def test_an_unreadable_file(folder: Path, environment: dict[str, str]) -> None:
    secret = folder / "secret.csv"
    secret.write_bytes(GOOD)
    secret.chmod(0)
    folder.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, secret.name],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == "error: cannot read secret.csv: Permission denied\n"


def test_the_real_command_refuses(folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "solver.run", "missing.csv"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: missing.csv: no such file\n"


def test_no_heavy_import_before_the_checks(environment: dict[str, str]) -> None:
    heavy = {"torch", "transformers", "sympy", "jupyter_client", "numpy"}
    code = f"import sys, solver.run; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr


class TestResume:
    @pytest.fixture(autouse=True)
    def run(self, folder: Path, problems: Path, stubs: Any, capsys: Any) -> Path:
        assert main([str(problems), "--run-dir", "run", "--quiet"]) == 0
        capsys.readouterr()
        return folder / "run"

    @pytest.mark.parametrize(
        ("flags", "says"),
        [
            (["--launch", "16"], "prune.launch differs from the config of run"),
            (["--seed", "7"], "seed differs"),
            (["--set", "sampling.top_k=3"], "sampling.top_k differs"),
            (["--preset", "general"], "add --set model.path=FOLDER"),
            (["--answer-range", "0:999"], "answer.maximum differs"),
            (["--keep", "25"], "keep (25) is larger than launch (24)"),
            (["--run-dir", "other"], "leave out --run-dir"),
        ],
    )
    def test_another_config(self, flags: list[str], says: str, refused: Callable[..., str]) -> None:
        assert says in refused("--resume", "run", *flags)

    def test_another_problems_file(self, folder: Path, refused: Callable[..., str]) -> None:
        (folder / "other.csv").write_bytes(GOOD)
        assert "not the problems file of run" in refused("other.csv", "--resume", "run")

    def test_no_run(self, folder: Path, refused: Callable[..., str]) -> None:
        (folder / "empty").mkdir()
        assert "not a run folder" in refused("--resume", "nowhere")
        assert "not a run folder" in refused("--resume", "empty")

    def test_a_folder_tampered_with(self, run: Path, refused: Callable[..., str]) -> None:
        copy = run / "problems.csv"
        original = copy.read_bytes()
        copy.write_bytes(GOOD)
        assert "changed after its run began" in refused("--resume", "run")
        copy.write_bytes(original)
        config = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps(config | {"seed": 5}))
        assert "seed in run was changed" in refused("--resume", "run")
        (run / "config.json").write_text("{}}")
        assert "no complete run" in refused("--resume", "run")

    def test_a_damaged_journal(self, run: Path, refused: Callable[..., str]) -> None:
        lines = (run / "journal.jsonl").read_bytes().split(b"\n")
        lines[2] = lines[2][:-7]
        (run / "journal.jsonl").write_bytes(b"\n".join(lines))
        assert "journal.jsonl line 3 is damaged" in refused("--resume", "run")

    def test_another_answers_file(self, folder: Path, refused: Callable[..., str]) -> None:
        (folder / "answers.csv").write_text("edited by hand")
        assert "--force" in refused("--resume", "run")

    def test_a_run_that_still_runs(self, run: Path, refused: Callable[..., str]) -> None:
        import fcntl

        with (run / "journal.jsonl").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert "in use" in refused("--resume", "run")
