"""Runs pip: the flags of its target platform, and its errors in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from packaging.version import Version

from solver.cli.python import python
from solver.errors import ConfigError

_GLIBC_MINOR = 35  # Kaggle's image is an Ubuntu 22.04
_OLDEST_GLIBC_MINOR = 5
_SHOWN = 4  # lines of pip's errors
_GOOD_PIP = Version("25")  # pip 23 finds no set of wheels for vLLM where pip 26 does

Pip = Callable[[Sequence[str]], None]


def platforms() -> tuple[str, ...]:
    """Every platform tag that Kaggle's image can install, the newest first."""
    minors = range(_GLIBC_MINOR, _OLDEST_GLIBC_MINOR - 1, -1)
    new = tuple(f"manylinux_2_{minor}_x86_64" for minor in minors)
    return (*new, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")


def target_flags(python: str) -> list[str]:
    """pip's flags to download wheels for CPython `python` (such as 3.12) on Kaggle."""
    words = ["--python-version", python, "--implementation", "cp", "--only-binary=:all:"]
    return [*words, *(word for tag in platforms() for word in ("--platform", tag))]


def run_pip(arguments: Sequence[str]) -> None:
    """Run this interpreter's pip. Raises `ConfigError` with pip's errors in one line."""
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(command, check=False, text=True, capture_output=True, cwd="/")
    if done.returncode:
        raise ConfigError(f"pip {arguments[0]} failed: {_reason(done.stderr)}{_old_pip()}")


def _reason(stderr: str) -> str:
    """pip's errors in one line, without its lists of versions."""
    lines = stderr.splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    shortened = [re.sub(r" \(from versions: .*\)", "", e) for e in errors if "Ignored the" not in e]
    return " / ".join((shortened or lines)[-_SHOWN:])


def _old_pip() -> str:
    running = version("pip")
    if Version(running) >= _GOOD_PIP:
        return ""
    return f"; pip {running} cannot resolve everything: {python()} -m pip install --upgrade pip"
