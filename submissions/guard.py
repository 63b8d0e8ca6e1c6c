"""`python -m submissions.guard COMMAND...`: run a command and end all its processes with it.

Processes whose parent ends become children of this one (it is their "subreaper"), so that the whole tree
stays below it, however its members were killed. It ends with the command, when its own parent has ended,
or at a SIGTERM, after killing all processes below it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence

import psutil

from sandbox.hardening.syscalls import PR_SET_CHILD_SUBREAPER, prctl

_STEP_S = 0.05
_LIMIT_S = 10.0


def guarded(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` under a guard."""
    return [sys.executable, "-m", "submissions.guard", *command]


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


def main(command: Sequence[str]) -> int:
    """Run `command` to its end and return its exit status, 128 + the signal's number for a signal."""
    parent = os.getppid()
    with contextlib.suppress(
        OSError, AttributeError
    ):  # not Linux: only direct descendants are found
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    child = os.posix_spawnp(command[0], list(command), os.environ)
    _close_pipes()
    status = None
    while status is None and not signals and os.getppid() == parent:
        status = _reap(child)
        if status is None:
            time.sleep(_STEP_S)
    _kill_below(psutil.Process(), _LIMIT_S)
    if status is None:
        return 128 + signal.SIGTERM
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _close_pipes() -> None:
    # So that the pipes end when the command does.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)


def _reap(child: int) -> int | None:
    """Reap ended children; the status of `child` if it is among them."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == child:
                return found[1]
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
