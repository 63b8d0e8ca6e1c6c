"""Packages in the image that do not load beside this torch cost nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from solver.cli.leftovers import UNNEEDED

ROOT = Path(__file__).parents[2]
LOADS = """
import sys
if "hide" in sys.argv:
    from solver.cli.leftovers import hide_leftovers
    hide_leftovers()
from solver.embedded.paths import WEIGHTS
from solver.engines.tokenizer import load_tokenizer
print(len(load_tokenizer(WEIGHTS)))
"""


@pytest.fixture
def image(tmp_path: Path) -> dict[str, str]:
    """The environment of a process on a machine that has all of them, and none that loads."""
    for name in UNNEEDED:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            "raise RuntimeError('built for another torch')"
        )
        information = tmp_path / f"{name}-0.1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n"
        )
    return os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


@pytest.mark.torch
@pytest.mark.parametrize("hide", [True, False])
def test_transformers_loads_once_they_are_hidden(image: dict[str, str], hide: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADS, *(["hide"] if hide else [])],
        env=image, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) is hide, done.stderr
    assert done.stdout == ("1024\n" if hide else "")


SOLVES = """
from solver import solve
print(solve("What is the sum of i^2 for i from 1 to 10?").num_votes > 0)
"""
HIDES = """
import sys
from solver.cli.leftovers import hide_broken_leftovers
hide_broken_leftovers()
import torchcodec
print(torchcodec.__name__, sys.modules["torchaudio"], sys.modules["torchvision"])
"""


@pytest.mark.torch
def test_the_solver_in_the_process_of_somebody_else_gets_over_them(image: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SOLVES],
        env=image, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_there_only_those_that_do_not_load_are_hidden(
    image: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "torchcodec" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", HIDES],
        env=image, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "torchcodec None None\n"), done.stderr
