"""The same as an unprivileged user: the hostile cells, the contract and the self-check, at level L2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.hostile import selected

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's"),
    pytest.mark.skipif(os.geteuid() != 0, reason="not root: all other tests are unprivileged"),
]

ROOT = Path(__file__).parents[2]
SOMEBODY = 54_321
SUITES = {
    "hostile": selected(),
    "contract": ["tests/sandbox/test_contract.py"],
    "hardening": ["tests/sandbox/test_hardening.py"],
    "zygote": ["tests/sandbox/test_zygote.py::test_daemons_end_with_a_zygote_that_is_killed"],
}


def interpreter(folder: Path) -> str:
    """A Python of our version with our packages that `SOMEBODY` can run, or the test is skipped."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [sys.executable, shutil.which(name, path=os.defpath + ":/usr/local/bin")]
    for number, candidate in enumerate(filter(None, candidates)):
        environment = folder / str(number)
        subprocess.run([candidate, "-m", "venv", "--without-pip", environment], check=True)
        made = environment / "bin" / "python"
        asked = [made, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        said = as_somebody([str(word) for word in asked], folder)
        if said.returncode == 0:
            packages = Path(said.stdout.strip())
            packages.rmdir()
            packages.symlink_to(sysconfig.get_path("purelib"))
            return str(made)
    pytest.skip(f"no {name} here that an unprivileged user can run")


def as_somebody(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            user=SOMEBODY,
            group=SOMEBODY,
            extra_groups=[],
            cwd=ROOT,
            env={"PATH": os.defpath, "HOME": str(home), "TMPDIR": str(home), "COLUMNS": "120"},
            capture_output=True,
            text=True,
        )
    except PermissionError as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of `SOMEBODY`'s that can be reached, which pytest's own cannot."""
    with tempfile.TemporaryDirectory(prefix="somebody-", ignore_cleanup_errors=True) as folder:
        os.chown(folder, SOMEBODY, SOMEBODY)
        yield Path(folder)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("suite", SUITES)
def test_unprivileged(home: Path, suite: str) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={home}/pytest"]
    command = [interpreter(home), "-m", "pytest", *SUITES[suite], *options]
    done = as_somebody(command, home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_the_self_check_holds_at_level_2(home: Path) -> None:
    done = as_somebody([interpreter(home), "-m", "sandbox", "check"], home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "isolation: landlock, seccomp, subreaper (L2)" in done.stdout
    assert "NO" not in done.stdout
