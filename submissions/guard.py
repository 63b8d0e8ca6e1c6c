"""`python -m submissions.guard COMMAND...`: run a command, and leave nothing of it behind.

Processes whose parent dies are handed to this one (it is their "subreaper"), so that the whole tree
stays below it, however its members were killed. It ends with the command, or when its own parent
is gone or a SIGTERM comes, after killing what is left below it.
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
_PATIENCE_S = 10.0


def guarded(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` under a guard."""
    return [sys.executable, "-m", "submissions.guard", *command]


def end_tree(pid: int, patience_s: float = _PATIENCE_S) -> list[str]:
    """Kill a guard and everything below it; returns what is still alive after `patience_s`."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        left = _kill_below(root, patience_s)
        root.kill()
        return left
    return []


def _kill_below(root: psutil.Process, patience_s: float) -> list[str]:
    give_up_at = time.monotonic() + patience_s
    while time.monotonic() < give_up_at:
        below = _alive_below(root)
        if not below:
            return []
        for process in below:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(below, timeout=_STEP_S)
    return [str(process) for process in _alive_below(root)]


def _alive_below(root: psutil.Process) -> list[psutil.Process]:
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
    with contextlib.suppress(OSError, AttributeError):  # not Linux: what is below by birth
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    child = os.posix_spawnp(command[0], list(command), os.environ)
    _let_go_of_pipes()
    status = None
    while status is None and not told and os.getppid() == parent:
        status = _reap(child)
        if status is None:
            time.sleep(_STEP_S)
    _kill_below(psutil.Process(), _PATIENCE_S)
    if status is None:
        return 128 + signal.SIGTERM
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _let_go_of_pipes() -> None:
    # So that the pipes end when the command does.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)


def _reap(child: int) -> int | None:
    """Bury whatever has died; the status of `child` once it is among them."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == child:
                return found[1]
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
