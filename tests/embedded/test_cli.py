"""The command line: files, clear errors, no heavy imports for problems."""

import subprocess
import sys
from pathlib import Path


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "solver.embedded", *arguments],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def test_problems_are_written(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    done = call("problems", "--split", "validation", "--num", "6", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert out.read_text().startswith("id,problem,answer,family,kind\n")


def test_a_bad_split_is_one_line_and_code_2(tmp_path: Path) -> None:
    done = call("problems", "--split", "nope", "--out", str(tmp_path / "p.csv"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: no such split: nope")
    assert done.stderr.count("\n") == 1


def test_an_unwritable_file_is_one_line_and_code_2(tmp_path: Path) -> None:
    done = call("problems", "--num", "1", "--out", str(tmp_path / "no" / "p.csv"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_a_training_that_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    done = call("train", "--num", "5", "--out", str(tmp_path / "w"))
    assert done.returncode == 2
    assert "less than one batch" in done.stderr
    assert not list(tmp_path.iterdir())


def test_problem_generation_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; import solver.embedded.cli, solver.embedded.corpus as c; c.trajectory(0, 0);"
        "print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
