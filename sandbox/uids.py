"""User ids that belong to nobody but one kernel each, and the end of all that runs as one of them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path

KERNELS = 256  # that one solver can run at a time
BLOCK = 2 * KERNELS  # a kernel has two uids: its own, and that of who ends it
BLOCKS = 64
FIRST_OF_MANY, FIRST_OF_FEW = 1 << 30, 20_000  # few: a container that has only some uids
REAPER = Path(__file__).with_name("hardening") / "reaper.py"
REAPER_TIMEOUT_S = 5.0


class Uids:
    """A block of uids that no other solver on this machine uses while this object lives."""

    def __init__(self) -> None:
        self._lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        for number in range(BLOCKS):
            # A name in the abstract namespace is ours until we end, however we do.
            with contextlib.suppress(OSError):
                self._lock.bind(f"\0sandbox-uids-{number}")
                break
        else:
            self._lock.close()
            raise OSError("every block of user ids is taken; are other solvers running?")
        start = first_uid() + number * BLOCK
        self._free = deque(range(start, start + BLOCK, 2))

    def take(self) -> int:
        """A uid as which nothing runs."""
        if not self._free:
            raise OSError(f"no more than {KERNELS} kernels at a time")
        return self._free.popleft()

    def give_back(self, uid: int) -> None:
        """`uid` may be used again: nothing runs as it any more."""
        self._free.append(uid)

    def close(self) -> None:
        """Let others use the block."""
        self._lock.close()


def end_all(uid: int) -> None:
    """Kill everything that runs as `uid`, at once; safe in a process that has threads."""
    command = [sys.executable, "-I", "-S", str(REAPER), str(uid)]
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        subprocess.run(command, env={}, timeout=REAPER_TIMEOUT_S, stderr=subprocess.DEVNULL)


def first_uid() -> int:
    """Where the blocks start; no kernel gets the uid before it."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _, count = map(int, line.split())
        end = FIRST_OF_MANY + BLOCKS * BLOCK
        if inside <= FIRST_OF_MANY and end <= inside + count:
            return FIRST_OF_MANY
    return FIRST_OF_FEW
