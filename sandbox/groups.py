"""Control groups (version 2), where they can be had: Linux itself then counts and bounds each kernel.

They can where we are root in the machine's own hierarchy, or alone in a group that was handed to us, as by
`systemd-run --user --scope -p Delegate=yes`. See https://docs.kernel.org/admin-guide/cgroup-v2.html.
Needs only the standard library: the zygote removes them when the solver is gone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import time
import uuid
from pathlib import Path

log = logging.getLogger(__name__)

MOUNTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
OWN = Path("/proc/self/cgroup")
CONTROLLERS = ("memory", "pids")
OVERSHOOT = 4  # by this part of it a kernel may pass its limit, until the watchdog has seen it
TRIES, WAIT_S = 100, 0.01  # of removing a group whose processes end


@functools.cache
def parent() -> Path | None:
    """The group in which ours can be made; None, with the reason in the log, where there is none."""
    if sys.platform != "linux":
        return None
    try:
        return _parent()
    except OSError as error:
        log.info("no control groups: %s", error)
        return None


def bounds(memory_bytes: int, processes: int) -> dict[str, int]:
    """What a group's files are to say for a kernel with these limits."""
    return {
        "memory.high": memory_bytes,
        "memory.max": memory_bytes + memory_bytes // OVERSHOOT,
        "memory.swap.max": 0,
        "memory.oom.group": 1,
        "pids.max": processes,
    }


def make(folder: Path, limits: dict[str, int]) -> None:
    """Make a group with these bounds. Raises OSError."""
    folder.mkdir()
    for name, value in limits.items():
        if name != "memory.swap.max" or (folder / name).exists():  # not where swap is not counted
            (folder / name).write_text(str(value))


def divide(folder: Path) -> None:
    """Let groups in this one be bounded. Raises OSError, also while processes are in it."""
    words = " ".join(f"+{name}" for name in CONTROLLERS)
    (folder / "cgroup.subtree_control").write_text(words)


def join(folder: Path) -> None:
    """Put this process, and all it starts, into the group. Raises OSError."""
    (folder / "cgroup.procs").write_text("0")


def held(folder: Path, counter: str = "memory.current") -> int:
    """Bytes that a group holds, less the pages of files, which Linux can drop.

    Raises OSError or ValueError.
    """
    cached = 0
    for line in (folder / counter).with_name("memory.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        cached += int(value) if name in ("inactive_file", "active_file") else 0
    return int((folder / counter).read_text()) - cached


def remove(folder: Path) -> None:
    """End what runs in the group and in those below it, and remove them; never raises."""
    with contextlib.suppress(OSError):
        (folder / "cgroup.kill").write_text("1")
    for below in folder.glob("*/"):
        remove(below)
    for _ in range(TRIES):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(WAIT_S)


def _parent() -> Path:
    """Raises OSError."""
    mount = next((each for each in MOUNTS if (each / "cgroup.controllers").exists()), None)
    if mount is None:
        raise OSError("version 2 is not mounted")
    root_of_all = not (mount / "cgroup.type").exists()  # in a container it is a group like others
    if root_of_all and os.geteuid() == 0:
        _check(mount)
        divide(mount)
        return mount
    path = OWN.read_text().rpartition("0::/")[2].strip()
    own = mount / path
    _check(own)
    # A group that is divided can hold no processes but in those below it.
    alone = own / f"solver-{uuid.uuid4().hex}"
    alone.mkdir()
    try:
        join(alone)
        divide(own)
    except OSError:
        with contextlib.suppress(OSError):
            join(own)
        with contextlib.suppress(OSError):
            alone.rmdir()
        raise
    return own


def _check(folder: Path) -> None:
    lacking = set(CONTROLLERS) - set((folder / "cgroup.controllers").read_text().split())
    if lacking:
        raise OSError(f"{folder} has no controller for {' or '.join(sorted(lacking))}")
