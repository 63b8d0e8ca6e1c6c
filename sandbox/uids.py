"""User ids that belong to nobody but one kernel each, and the end of all that runs as one of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import stat
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

KERNELS = 256  # that one solver can run at a time
BLOCK = 2 * KERNELS  # a kernel has two uids: its own, and that of who ends it
# Many: ids that no distribution and no container manager hands out. Few: a container that has only
# some, of which those above are likely to be free.
MANY, FEW = range(0x7000_0000, 0x7FFE_0000), range(20_000, 60_000)
LOCKS = "sandbox-uids"  # the name of a folder
REAPER = Path(__file__).with_name("hardening") / "reaper.py"
REAPER_TIMEOUT_S = 5.0


class Uids:
    """A block of uids that no other solver on this machine uses while this object lives.

    The block is drawn at random, locked by a file that only root can reach, and refused when anything
    runs as one of its ids: a solver in another container, with which no file is shared, would be seen
    by its processes, or has drawn another one of half a million. `descriptor` is the lock; whoever
    inherits it keeps the block after our end.
    """

    def __init__(self) -> None:
        folder = _lock_folder()
        _remove_unlocked(folder)
        ids = _ids()
        starts = range(ids.start, ids.stop - BLOCK + 1, BLOCK)
        for start in random.sample(starts, min(len(starts), 1000)):
            self._path = folder / str(start)
            if (descriptor := _locked(self._path)) is None:
                continue
            if not _in_use(range(start, start + BLOCK)):
                break
            os.close(descriptor)
        else:
            raise OSError("every block of user ids is taken; are other solvers running?")
        self.descriptor = descriptor
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
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self.descriptor)


def end_all(uid: int) -> None:
    """Kill everything that runs as `uid`, at once; safe in a process that has threads."""
    command = [sys.executable, "-I", "-S", str(REAPER), str(uid)]
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        subprocess.run(command, env={}, timeout=REAPER_TIMEOUT_S, stderr=subprocess.DEVNULL)


def trial_uid() -> int:
    """One that no kernel gets, to try with which layers hold."""
    return _ids().start - 1


def _ids() -> range:
    """Where the blocks are: `MANY`, where this user namespace has them."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _, count = map(int, line.split())
        if inside < MANY.start and MANY.stop <= inside + count:
            return MANY
    return FEW


def _lock_folder() -> Path:
    """A folder that is root's alone; nobody else can have made it. Raises OSError."""
    for place in ("/run", "/var/run", "/dev/shm", tempfile.gettempdir()):
        folder = Path(place, LOCKS)
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and (found.st_uid, found.st_mode & 0o77) == (0, 0):
                return folder
    raise OSError("no folder for the locks of user ids: /run cannot be written to")


def _remove_unlocked(folder: Path) -> None:
    """The locks of solvers that were killed."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if (descriptor := _locked(path)) is not None:
                try:
                    path.unlink()
                finally:
                    os.close(descriptor)


def _locked(path: Path) -> int | None:
    """A descriptor that locks the file of this name; None while somebody else's does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:  # else its owner removed it between the two lines above
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _in_use(ids: range) -> bool:
    """Whether anything runs as one of these."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError, ValueError):
            if process.name.isdecimal():
                words = (process / "status").read_text().split("\nUid:")[1].split()[:4]
                if any(int(word) in ids for word in words):
                    return True
    return False
