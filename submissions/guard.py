"""Runs a command so that all its processes end with it, and ends such trees.

The guard is the watcher of the vLLM servers, without a lifeline: processes whose parent dies are
handed to it, so that the whole tree stays below it. It ends with the command, or when its own parent
is gone or a SIGTERM comes, after killing what is left below it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence

import psutil

from solver.engines.vllm import watcher

_STEP_S = 0.05
_LIMIT_S = 10.0


def guarded(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` under a guard."""
    return [sys.executable, "-I", watcher.__file__, "-", *command]


def end_tree(pid: int, limit_s: float = _LIMIT_S) -> list[str]:
    """Kill a guard and all processes below it; returns those that still run after `limit_s`."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        left = _kill_below(root, limit_s)
        root.kill()
        return left
    return []


def _kill_below(root: psutil.Process, limit_s: float) -> list[str]:
    give_up_at = time.monotonic() + limit_s
    while time.monotonic() < give_up_at:
        below = _running_below(root)
        if not below:
            return []
        for process in below:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(below, timeout=_STEP_S)
    return [str(process) for process in _running_below(root)]


def _running_below(root: psutil.Process) -> list[psutil.Process]:
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in root.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found
