"""What processes of other tests, and of the code under test, were called with: they may end at any time."""

from __future__ import annotations

import psutil


def command_of(process: psutil.Process) -> str:
    """Its command line, or the title that it has taken; empty when it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
