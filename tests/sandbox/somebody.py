"""A user without rights, and a Python that it can run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOMEBODY = 54_321


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """A folder of `SOMEBODY`'s that can be reached, which pytest's own cannot."""
    with tempfile.TemporaryDirectory(prefix="somebody-", ignore_cleanup_errors=True) as folder:
        os.chown(folder, SOMEBODY, SOMEBODY)
        yield Path(folder)


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
