"""How this interpreter is called on a command line, for advice that can be followed as it stands."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def python() -> str:
    """`python` if that is this interpreter, else its path, relative if it is below the working folder."""
    running = Path(sys.executable)
    found = shutil.which("python")
    if found is not None and Path(found) == running:
        return "python"
    here = Path.cwd()
    return shlex.quote(str(running.relative_to(here) if running.is_relative_to(here) else running))


def place(folder: Path) -> str:
    """A folder as it is written on a command line here: `.` for the working folder."""
    return os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
