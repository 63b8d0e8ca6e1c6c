"""Finds and kills the processes of kernels, daemons included, also when the solver itself ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import ClassVar

import psutil

from sandbox import groups
from sandbox.folders import remove_folder

MARK = "SANDBOX_MARK"  # environment variable that every process of a kernel inherits
CLEANER_S = 2.0
SWEEPS = 5  # times that /proc is walked before giving up on something that forks ever anew


def alive(process: psutil.Process) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def signal_group(leader: int, number: int) -> None:
    """Signal a process group; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def kill_tree(leader: int) -> None:
    """Kill a group and everything that descends from its leader, at once."""
    signal_group(leader, signal.SIGSTOP)  # so that the list below does not change
    try:
        below = psutil.Process(leader).children(recursive=True)
    except psutil.Error:
        below = []
    signal_group(leader, signal.SIGKILL)
    for process in below:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill_marked(prefix: str) -> int:
    """Kill every process whose mark starts with `prefix`, wherever it went; returns how many."""
    killed = 0
    for _ in range(SWEEPS):
        found = [process for process in psutil.process_iter() if _mark(process).startswith(prefix)]
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        killed += len(found)
        if not found:
            break
    return killed


def _mark(process: psutil.Process) -> str:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return str(process.environ().get(MARK, ""))
    except (psutil.Error, OSError):  # gone meanwhile, or not ours to read
        return ""


class SafetyNet:
    """Kills what is left of a pool when the solver exits or gets SIGTERM before it closed the pool.

    A SIGTERM handler that somebody else installed is left alone.
    """

    _armed: ClassVar[list[SafetyNet]] = []
    _owner: ClassVar[int] = 0  # process id

    def __init__(self, prefix: str, folder: Path, group: Path | None) -> None:
        self._prefix = prefix
        self._folder = folder
        self._group = group
        # At SIGTERM it cleans up, and it knows more than we do.
        self.cleaner: subprocess.Popen[bytes] | None = None

    def arm(self) -> None:
        """Start guarding the processes marked `prefix` and the folder."""
        if not self._armed:
            SafetyNet._owner = os.getpid()
            atexit.register(_catch)
            if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, _on_sigterm)
        self._armed.append(self)

    def disarm(self) -> None:
        """Stop guarding them."""
        if self in self._armed:
            self._armed.remove(self)
        if not self._armed:
            atexit.unregister(_catch)
            if _in_main_thread() and signal.getsignal(signal.SIGTERM) is _on_sigterm:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def abandon(self) -> None:
        """Kill everything now, and wait for nothing: a zygote ends its kernels by itself, and cleans up."""
        if self.cleaner is not None and self.cleaner.poll() is None:
            self.cleaner.terminate()
        else:
            kill_marked(self._prefix)
            remove_folder(self._folder)

    def catch(self) -> None:
        """Kill everything now."""
        if self.cleaner is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self.cleaner.terminate()
                self.cleaner.wait(CLEANER_S)
        kill_marked(self._prefix)
        if self._group is not None:
            groups.remove(self._group)
        remove_folder(self._folder)


def abandon() -> None:
    """Kill what is left of every pool of this process, which ends at once."""
    for net in list(SafetyNet._armed):
        net.abandon()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _catch() -> None:
    if os.getpid() != SafetyNet._owner:  # a forked child of the solver ends
        return
    for net in SafetyNet._armed:
        net.catch()


def _on_sigterm(number: int, _: FrameType | None) -> None:
    _catch()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
