"""A command whose extra is not installed says which one to install, in one line, and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from solver.cli.extras import extra_of, install, require
from solver.cli.python import python
from solver.errors import ConfigError

from .without_extras import ROOT, hidden_modules

HERE = Path(__file__).parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
DATA = ["data.jsonl", "--base", "embedded", "--out", "adapter"]


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("train", ["solver", "stop", "train", *DATA]),
        ("train", ["solver", "stop", "ablate", *DATA, "--rollouts", "some.rollouts.jsonl"]),
        ("train", ["solver", "stop", "evaluate", "--split", "test", "--out", "results"]),
        ("kaggle", ["solver", "dryrun", "problems.csv"]),
        ("kaggle", ["submissions.kaggle", "aimo3"]),
        ("kaggle", ["solver", "run", "problems.parquet"]),
        ("dev", ["solver", "notebook", "build", "--out", "built"]),
        ("dev", ["submissions.headless", "some.ipynb"]),
        ("harmony", ["solver", "run", "problems.csv", "--preset", "gpt-oss-20b", "--model", "."]),
        ("vllm", ["solver", "run", "problems.csv", "--engine", "vllm"]),
        ("ray", ["solver", "run", "problems.csv", "--ray"]),
        ("ray", ["solver.run", "problems.csv", "--ray", "10.0.0.1:6379", "--actors", "2"]),
        ("ray", ["solver", "stop", "collect", "--split", "stop", "--out", "data.jsonl", "--ray"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:3]),
)
def test_a_command_names_the_extra_that_it_lacks(
    extra: str, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "problems.csv").write_text("problem\n1+1?\n")
    (tmp_path / "problems.parquet").write_text("PAR1")
    (tmp_path / "some.ipynb").write_text("{}")
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, str(HERE / "without_extras.py"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    error = done.stderr.splitlines()[-1]  # a busy machine may say before it that kernels end slowly
    assert error.startswith("error: ") and " -m pip install --editable '" in error
    assert f"[{extra}]'" in error
    left = [path.name for path in sorted(tmp_path.iterdir()) if path not in before]
    assert left in ([], ["runs"])  # a run that could not begin leaves the folder of runs, empty
    assert not any((tmp_path / "runs").glob("*"))


def test_extras_are_those_of_the_project() -> None:
    """A module's extra is found in the installed metadata, which is made of pyproject.toml."""
    for extra, modules in {
        "train": ("accelerate", "matplotlib"),
        "kaggle": ("polars", "pyarrow"),
        "harmony": ("openai_harmony",),
        "vllm": ("vllm",),
        "dev": ("jupytext", "nbformat", "nbclient"),
    }.items():
        assert extra in EXTRAS
        assert {extra_of(module) for module in modules} == {extra}, modules


def test_a_clone_is_known_beside_the_egg_info_that_its_installation_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "stop_solver.egg-info"
    left.mkdir()
    (left / "PKG-INFO").write_text(
        "Metadata-Version: 2.4\nName: stop-solver\nVersion: 0\n"
        "Provides-Extra: train\nRequires-Dist: accelerate; extra == 'train'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert " --editable '" in install("accelerate")


def test_what_no_extra_brings_is_installed_by_its_own_name() -> None:
    assert extra_of("torch") is None and extra_of("no_such_package") is None
    assert install("no_such_package") == f"{python()} -m pip install no-such-package"


def test_the_first_missing_module_is_named() -> None:
    require("a test", "json", "typer")
    with pytest.raises(
        ConfigError, match=r"^a test needs no-such: .*python.* -m pip install no-such$"
    ):
        require("a test", "json", "no_such", "nor_this")


def test_the_modules_of_extras_are_hidden() -> None:
    assert {"accelerate", "matplotlib", "polars", "jupytext"} <= hidden_modules()
    assert not {"torch", "rich", "solver", "numpy"} & hidden_modules()
