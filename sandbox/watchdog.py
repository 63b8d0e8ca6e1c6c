"""Watches what kernels use that no resource limit bounds: a tree's memory and processes, a folder.

Two threads of its own look twice a second, one at memory and one at folders, so that neither waits for
the other, nor for whatever else the solver does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sandbox.limits import Limits

log = logging.getLogger(__name__)

POLL_S = 0.5
PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
PIPE_BYTES = 64 << 10  # a pipe's size, which the filter keeps
ENTRY_BYTES = 8192  # what a file or folder counts at least
DEEPEST = 64  # folders below folders; deeper ones are there to hide something
TOO_MUCH = sys.maxsize


@dataclass(frozen=True)
class Watched:
    """A running kernel: its process, its folder, and whether its processes can be looked into.

    Where they can (not in a container whose root may not trace), one that cannot hides something.
    """

    pid: int
    folder: Path
    readable: bool = True


Look = Callable[[list[Watched], Limits], dict[Watched, str]]


class Watchdog:
    """Looks at what `watched` names until it is stopped, and calls `found` (in its own thread)."""

    def __init__(
        self,
        watched: Callable[[], list[Watched]],
        found: Callable[[dict[Watched, str]], None],
        limits: Limits,
    ) -> None:
        self._watched = watched
        self._found = found
        self._limits = limits
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(look,), name=look.__name__, daemon=True)
            for look in (too_much_memory, too_many_files)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more; waits for a look that is under way."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _keep(self, look: Look) -> None:
        while not self._over.wait(POLL_S):
            try:
                if found := look(self._watched(), self._limits):
                    self._found(found)
            except Exception as error:  # a watchdog that fails must not be the end of watching
                log.error("the watchdog failed", exc_info=error)


@dataclass
class Usage:
    """The processes of a kernel, and the sum of their resident bytes."""

    pids: list[int] = field(default_factory=list)
    resident: int = 0


def too_much_memory(kernels: list[Watched], limits: Limits) -> dict[Watched, str]:
    """Which of the kernels hold too much memory or run too many processes, with the reason.

    When the machine has too little left, the one that holds most.
    """
    found: dict[Watched, str] = {}
    if not kernels:
        return found
    usages = _usages(kernels)
    scarce = available_bytes() < limits.floor_bytes
    held: dict[Watched, int] = {}
    for kernel, usage in usages.items():
        # All that they could hold besides; what is below the limit even so is not looked at closer.
        hidden = len(usage.pids) * limits.open_files * _socket_bytes() + limits.shm_bytes
        if scarce or usage.resident + hidden > limits.resident_bytes:
            held[kernel] = _held(kernel, usage)
        if held.get(kernel, 0) > limits.resident_bytes:
            found[kernel] = f"more than {limits.resident_bytes / 2**30:g} GiB of memory"
        elif len(usage.pids) > limits.processes:
            found[kernel] = f"more than {limits.processes} processes"
    if scarce and not found:
        found[max(held, key=lambda kernel: held[kernel])] = "the machine's memory is nearly used up"
    return found


def too_many_files(kernels: list[Watched], limits: Limits) -> dict[Watched, str]:
    """Which of the kernels keep more files than they may, with the reason."""
    usages = _usages(kernels)
    most = limits.folder_bytes
    return {
        kernel: f"more than {most >> 20} MiB of files"
        for kernel in kernels
        if _stored(kernel.folder, most) + _nameless(kernel, usages[kernel].pids, limits) > most
    }


def available_bytes() -> int:
    """Memory that is left on this machine, or in the container that limits this process."""
    left = int(psutil.virtual_memory().available)
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            folder = Path("/sys/fs/cgroup")
            bound = int((folder / most).read_text())
            cached = 0
            for line in (folder / most).with_name("memory.stat").read_text().splitlines():
                name, _, value = line.partition(" ")
                cached += int(value) if name in ("inactive_file", "active_file") else 0
            left = min(left, bound - int((folder / used).read_text()) + cached)
    return left


def _usages(kernels: list[Watched]) -> dict[Watched, Usage]:
    below: dict[int, list[int]] = defaultdict(list)
    resident: dict[int, int] = {}
    for pid, parent, size in _processes():
        below[parent].append(pid)
        resident[pid] = size
    usages = {}
    for kernel in kernels:
        pids = [kernel.pid]
        for pid in pids:
            pids += below[pid]
        usages[kernel] = Usage(pids, sum(resident.get(pid, 0) for pid in pids))
    return usages


def _processes() -> list[tuple[int, int, int]]:
    """(pid, parent, resident bytes) of everything that runs."""
    found = []
    if sys.platform != "linux":
        for process in psutil.process_iter(["ppid", "memory_info"]):
            memory = process.info["memory_info"]
            found.append((process.pid, process.info["ppid"], memory.rss if memory else 0))
        return found
    for name in os.listdir(PROC):  # noqa: PTH208 - it is twice as fast
        if name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = _stat(PROC / name)
                if text[0] == b"Z":  # its other threads may run on, with all that it holds
                    text[21:22] = _stat(_living_thread(int(name)))[21:22]
                found.append((int(name), int(text[1]), int(text[21]) * PAGE))
    return found


def _stat(process: Path) -> list[bytes]:
    """The fields of `stat` from the state on."""
    return (process / "stat").read_bytes().rpartition(b")")[2].split()


def _living_thread(pid: int) -> Path:
    """Where /proc shows what the process holds. Raises FileNotFoundError when none of it runs."""
    tasks = PROC / str(pid) / "task"
    for name in os.listdir(tasks):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if _stat(tasks / name)[0] not in (b"Z", b"X"):
                return tasks / name
    raise FileNotFoundError(pid)


def _holds_memory(pid: int) -> bool:
    """Whether it has any; one that is about to end has none, and nobody may look into it."""
    with contextlib.suppress(OSError):
        return int(_stat(_living_thread(pid))[20]) > 0
    return False


def _held(kernel: Watched, usage: Usage) -> int:
    """Bytes of memory: pages (what forks share counts once), its /dev/shm, pipes, full sockets."""
    if sys.platform != "linux":
        return usage.resident
    total = _shm_used(kernel.pid)
    open_ends: set[str] = set()
    for pid in usage.pids:
        try:
            thread = _living_thread(pid)
            for line in (thread / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
            open_ends.update(target for target, _ in _descriptors(thread))
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            if kernel.readable and _holds_memory(pid):
                return TOO_MUCH
            with contextlib.suppress(OSError):
                total += int(_stat(PROC / str(pid))[21]) * PAGE
    total += PIPE_BYTES * sum(end.startswith("pipe:") for end in open_ends)
    return total + _socket_bytes() * sum(end.startswith("socket:") for end in open_ends)


def _shm_used(pid: int) -> int:
    """What is stored in the /dev/shm that a process sees, if that is not our own."""
    with contextlib.suppress(OSError):
        theirs = PROC / str(pid) / "root/dev/shm"
        if theirs.stat().st_dev != Path("/dev/shm").stat().st_dev:
            space = os.statvfs(theirs)
            return (space.f_blocks - space.f_bfree) * space.f_frsize
    return 0


def _socket_bytes() -> int:
    """Most that one socket can hold unread: twice the largest buffer that may be asked for."""
    return 2 * WMEM_MAX


def _wmem_max() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((PROC / "sys/net/core/wmem_max").read_text())
    return 212_992  # where /proc/sys is hidden; the usual one


WMEM_MAX = _wmem_max()


def _descriptors(process: Path) -> list[tuple[str, str]]:
    """(what it refers to, where /proc has it) of every descriptor of a process."""
    found = []
    with os.scandir(process / "fd") as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found.append((str(Path(entry.path).readlink()), entry.path))
    return found


def _stored(folder: Path, enough: int) -> int:
    """Bytes on the disk below `folder`.

    Counting stops when it is `enough`. A folder that cannot be read counts as too much.
    """
    total = 0
    folders = [(str(folder), 0)]
    while folders and total <= enough:
        path, depth = folders.pop()
        if depth > DEEPEST:
            return TOO_MUCH
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        total += max(ENTRY_BYTES, entry.stat(follow_symlinks=False).st_blocks * 512)
                        if entry.is_dir(follow_symlinks=False):
                            folders.append((entry.path, depth + 1))
                    if total > enough:
                        break
        except FileNotFoundError:
            continue
        except OSError:
            return TOO_MUCH
    return total


def _nameless(kernel: Watched, pids: list[int], limits: Limits) -> int:
    """Bytes of files of the folder that have no name any more: open ones, and mapped ones.

    How large a mapped one is only root may see, so elsewhere it counts as the largest that there is.
    """
    if sys.platform != "linux":
        return 0
    files: dict[tuple[int, int] | str, int] = {}
    start, end = os.fsencode(kernel.folder), b" (deleted)"
    for pid in pids:
        try:
            thread = _living_thread(pid)
            for target, path in _descriptors(thread):
                if target.startswith(str(kernel.folder)) and target.endswith(" (deleted)"):
                    with contextlib.suppress(FileNotFoundError):
                        found = Path(path).stat()
                        files[found.st_dev, found.st_ino] = found.st_blocks * 512
            maps = PROC / thread.name / "maps"  # a thread's number names its process too
            for line in maps.read_bytes().splitlines():
                if line.endswith(end) and start in line:
                    addresses, _, _, device, inode = line.split()[:5]
                    major, minor = (int(part, 16) for part in device.split(b":"))
                    key = (os.makedev(major, minor), int(inode))
                    if key not in files:
                        area = PROC / str(pid) / "map_files" / _bounds(addresses)
                        files[key] = limits.file_bytes
                        with contextlib.suppress(OSError):
                            files[key] = area.stat().st_blocks * 512
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            if kernel.readable and _holds_memory(pid):
                return TOO_MUCH
    return sum(files.values())


def _bounds(addresses: bytes) -> str:
    """Two addresses as `map_files` names them: without leading zeros."""
    return "-".join(part.lstrip("0") or "0" for part in addresses.decode().split("-"))
