"""Runs one command and ends all its processes with it: `python -I watcher.py GRACE_S COMMAND...`.

Its standard input is the lifeline: a pipe whose other end only the solver holds. When it closes, also
because the solver was killed, everything is killed at once; a byte on it asks the command to end and
gives it GRACE_S seconds. With `-` for GRACE_S there is no lifeline: standard input and output are the
command's, and everything is killed when this process's parent is gone.

Orphans of the command become children of this process (a Linux "subreaper"), so that a process which
left its group and its session is found as well. Exits when none of them runs any more, with the
command's exit code, or 128 + signal if a signal ended it. On Linux only the standard library is used:
this file runs by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_PDEATHSIG, _CHILD_SUBREAPER = 1, 36  # <sys/prctl.h>
_POLL_S = 0.2
_STEP_S = 0.05
_GIVE_UP_S = 30.0  # a process inside a system call may take that long to end


def main(grace_s: float | None, command: list[str]) -> int:
    """Run `command` to its end, whoever ends it, and return its exit code."""
    parent = os.getppid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)

    def die_with_the_watcher() -> None:
        if libc is not None:
            libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    stdin = None if grace_s is None else subprocess.DEVNULL
    child = subprocess.Popen(command, stdin=stdin, preexec_fn=die_with_the_watcher)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        code = _watch_parent(child.pid, parent) if grace_s is None else _watch(child.pid, grace_s)
    finally:
        _kill_all()
    return 128 + signal.SIGKILL if code is None else code


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)


def _watch(leader: int, grace_s: float) -> int | None:
    """The leader's exit code, or None once it has to be killed."""
    until: float | None = None
    lifeline = select.poll()
    lifeline.register(0, select.POLLIN | select.POLLHUP)
    while True:
        if (code := _reaped(leader)) is not None:
            return code
        if until is None:
            if lifeline.poll(_POLL_S * 1000):
                if not os.read(0, 1):
                    return None
                os.kill(leader, signal.SIGTERM)
                until = time.monotonic() + grace_s
        elif time.monotonic() >= until or (lifeline.poll(_POLL_S * 1000) and not os.read(0, 1)):
            return None


def _watch_parent(leader: int, parent: int) -> int | None:
    """The leader's exit code, or None once `parent` is gone."""
    null = os.open(os.devnull, os.O_RDWR)
    for pipe in (0, 1):  # so that they end when the command does
        os.dup2(null, pipe)
    while os.getppid() == parent:
        if (code := _reaped(leader)) is not None:
            return code
        time.sleep(_STEP_S)
    return None


def _reaped(leader: int) -> int | None:
    """Reap ended children; the leader's exit code if it is among them."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == leader:
                code = os.waitstatus_to_exitcode(status)
                return 128 - code if code < 0 else code
            if pid == 0:
                break
    return None


def _kill_all() -> None:
    """Kill the descendants of this process until there are none."""
    until = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < until:
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)
    print(f"still running after {_GIVE_UP_S:.0f} s: processes {_descendants()}", flush=True)


def _descendants() -> list[int]:
    if sys.platform != "linux":
        import psutil

        return [process.pid for process in psutil.Process().children(recursive=True)]
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


if __name__ == "__main__":
    sys.exit(main(None if sys.argv[1] == "-" else float(sys.argv[1]), sys.argv[2:]))
