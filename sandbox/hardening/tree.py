"""Which processes descend from which, by /proc; and the end of all that descend from one."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
ROUNDS = 200  # of stopping what forks ever anew


def children() -> dict[int, list[int]]:
    """The direct children of every process, zombies too."""
    below: dict[int, list[int]] = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2]
                below[int(fields.split()[1])].append(int(entry.name))
    return below


def descendants(ancestors: Iterable[int]) -> list[int]:
    """All that descend from any of these, themselves not included."""
    below = children()
    found = list(ancestors)
    start = len(found)
    for pid in found:
        found += below.get(pid, [])
    return found[start:]


def kill_below(pid: int) -> None:
    """Kill all descendants of `pid`; all are stopped first, so that none forks meanwhile."""
    stopped: list[int] = []
    for _ in range(ROUNDS):
        fresh = set(descendants([pid])) - set(stopped)
        if not fresh:
            break
        for process in fresh:
            send(process, signal.SIGSTOP)
        stopped += fresh
    for process in stopped:
        send(process, signal.SIGKILL)


def send(pid: int, number: int) -> None:
    """Signal a process; one that is gone, or not ours, is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
