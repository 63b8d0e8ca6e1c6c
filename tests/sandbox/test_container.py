"""The same as the root of a usual container, who may not mount: the hostile cells and the self-check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.hostile import selected
from tests.sandbox.somebody import home, interpreter

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's"),
    pytest.mark.skipif(os.geteuid() != 0, reason="not root"),
]

ROOT = Path(__file__).parents[2]
SYS_ADMIN = 21
# Those that a container manager leaves to root: owners and modes of files, users, kill and a few more.
USUAL = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
WITHOUT = """
import ctypes, os, sys
for capability in map(int, sys.argv[1].split(",")):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""


def without(
    capabilities: set[int], *command: str, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    names = ",".join(map(str, sorted(capabilities)))
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, names, python, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
    )


@pytest.mark.timeout(400)
def test_hostile_cells_without_the_right_to_mount() -> None:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = without({SYS_ADMIN}, "pytest", *selected(), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("kept", [set(range(41)) - {SYS_ADMIN}, USUAL], ids=["most", "usual"])
def test_the_self_check_holds(kept: set[int]) -> None:
    done = without(set(range(41)) - kept, "sandbox", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    # Where only root can read the interpreter, a kernel of a usual container has no uid of its own.
    assert re.search(r"isolation: (uid, landlock, seccomp \(L3|landlock, .* \(L2)\)", done.stdout)
    assert " NO" not in done.stdout


def test_the_self_check_holds_where_anybody_can_read_the_interpreter() -> None:
    with home() as folder:
        folder.chmod(0o755)
        done = without(set(range(41)) - USUAL, "sandbox", "check", python=interpreter(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "isolation: uid, landlock, seccomp (L3)" in done.stdout
