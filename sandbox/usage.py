"""Counts what kernels hold, by /proc: the memory and the files of a tree of processes.

Pages, pipes, sockets, files with and without a name: all that the filter in `hardening` leaves possible.
What cannot be looked into counts as too much.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

TOO_MUCH = sys.maxsize
PAGE = os.sysconf("SC_PAGE_SIZE")
PIPE_BYTES = 64 << 10  # a pipe's size, which the filter keeps
ENTRY_BYTES = 8192  # what a file or folder counts at least
DEEPEST = 64  # folders below folders; deeper ones are there to hide something
DELETED = " (deleted)"  # how /proc ends the path of a file that has no name any more
STATE, PARENT, USER_TIME, SYSTEM_TIME, SIZE, RESIDENT = 0, 1, 11, 12, 20, 21  # of `stat`


class Process(NamedTuple):
    """`resident` in bytes; `ran` for how long, with its threads, in a unit of the system's."""

    pid: int
    parent: int
    resident: int
    ran: float


def trees(leaders: Iterable[int]) -> dict[int, list[Process]]:
    """What each of these started, itself first; one that is gone has run nothing and holds nothing."""
    everything = {process.pid: process for process in _processes()}
    below: dict[int, list[Process]] = defaultdict(list)
    for process in everything.values():
        below[process.parent].append(process)
    found = {}
    for leader in leaders:
        found[leader] = [everything.get(leader, Process(leader, 0, 0, 0))]
        for process in found[leader]:
            found[leader] += below[process.pid]
    return found


def memory(processes: list[Process], *, readable: bool) -> int:
    """Bytes that a tree holds: pages (what forks share counts once), its /dev/shm, pipes, full sockets.

    `readable`: whoever cannot be looked into hides something.
    """
    if sys.platform != "linux":
        return sum(process.resident for process in processes)
    total = _shared_memory(processes[0].pid)
    open_ends: set[str] = set()
    for process in processes:
        try:
            thread = _living_thread(process.pid)
            total += _proportional(thread)
            open_ends.update(target for target, _ in _descriptors(thread))
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            if readable and _holds_memory(process.pid):
                return TOO_MUCH
            total += process.resident
    total += PIPE_BYTES * sum(end.startswith("pipe:") for end in open_ends)
    return total + SOCKET_BYTES * sum(end.startswith("socket:") for end in open_ends)


def stored(folder: Path, enough: int) -> int:
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


def nameless(folder: Path, processes: list[Process], largest: int, *, readable: bool) -> int:
    """Bytes of files of `folder` that have no name any more: open ones, and mapped ones.

    How large a mapped one is only root may see, so elsewhere it counts as the `largest` that there is.
    """
    if sys.platform != "linux":
        return 0
    files: dict[tuple[int, int], int] = {}
    for process in processes:
        try:
            thread = _living_thread(process.pid)
            files.update(_open_and_deleted(thread, str(folder)))
            for key, area in _mapped_and_deleted(thread, os.fsencode(folder)).items():
                if key not in files:
                    files[key] = largest
                    with contextlib.suppress(OSError):
                        found = Path(f"/proc/{process.pid}/map_files/{area}").stat()
                        files[key] = found.st_blocks * 512
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            if readable and _holds_memory(process.pid):
                return TOO_MUCH
    return sum(files.values())


def available_memory() -> int:
    """Bytes that are left on this machine, or in the container that limits this process."""
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


def _processes() -> list[Process]:
    """Everything that runs."""
    if sys.platform != "linux":
        return list(map(_asked, psutil.process_iter(["ppid", "memory_info", "cpu_times"])))
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - it is twice as fast
        if name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = _stat(f"/proc/{name}")
                if fields[STATE] == b"Z":  # its other threads may run on, with all that it holds
                    fields[RESIDENT] = _stat(_living_thread(int(name)))[RESIDENT]
                found.append(
                    Process(
                        int(name),
                        int(fields[PARENT]),
                        int(fields[RESIDENT]) * PAGE,
                        int(fields[USER_TIME]) + int(fields[SYSTEM_TIME]),
                    )
                )
    return found


def _asked(process: psutil.Process) -> Process:
    """The same where there is no /proc."""
    memory, times = process.info["memory_info"], process.info["cpu_times"]
    ran = times.user + times.system if times else math.nan  # differs from any other
    return Process(process.pid, process.info["ppid"] or 0, memory.rss if memory else 0, ran)


def _stat(process: str) -> list[bytes]:
    """The fields of `stat` from the state on."""
    with open(f"{process}/stat", "rb") as file:  # noqa: PTH123 - a third of the time
        return file.read().rpartition(b")")[2].split()


def _living_thread(pid: int) -> str:
    """Where /proc shows what the process holds. Raises FileNotFoundError when none of it runs."""
    tasks = f"/proc/{pid}/task"
    for name in os.listdir(tasks):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if _stat(f"{tasks}/{name}")[STATE] not in (b"Z", b"X"):
                return f"{tasks}/{name}"
    raise FileNotFoundError(pid)


def _holds_memory(pid: int) -> bool:
    """Whether it has any; one that is about to end has none, and nobody may look into it."""
    with contextlib.suppress(OSError):
        return int(_stat(_living_thread(pid))[SIZE]) > 0
    return False


def _proportional(thread: str) -> int:
    """Bytes of its pages, each divided by how many map it."""
    for line in Path(thread, "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def _shared_memory(pid: int) -> int:
    """What is stored in the /dev/shm that a process sees, if that is not our own."""
    with contextlib.suppress(OSError):
        theirs = Path(f"/proc/{pid}/root/dev/shm")
        if theirs.stat().st_dev != Path("/dev/shm").stat().st_dev:
            space = os.statvfs(theirs)
            return (space.f_blocks - space.f_bfree) * space.f_frsize
    return 0


def _descriptors(thread: str) -> list[tuple[str, str]]:
    """(what it refers to, where /proc has it) of every descriptor of a process."""
    found = []
    for name in os.listdir(f"{thread}/fd"):  # noqa: PTH208
        path = f"{thread}/fd/{name}"
        with contextlib.suppress(FileNotFoundError):
            found.append((os.readlink(path), path))  # noqa: PTH115 - a third of the time
    return found


def _open_and_deleted(thread: str, folder: str) -> dict[tuple[int, int], int]:
    """Bytes of each file, by its device and number."""
    files = {}
    for target, path in _descriptors(thread):
        if target.startswith(folder) and target.endswith(DELETED):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(path)  # noqa: PTH116
                files[found.st_dev, found.st_ino] = found.st_blocks * 512
    return files


def _mapped_and_deleted(thread: str, folder: bytes) -> dict[tuple[int, int], str]:
    """Where each file is mapped, as `map_files` names it, by its device and number."""
    # A thread's number names its process too, and that shows what all of its threads map.
    with open(f"/proc/{thread.rpartition('/')[2]}/maps", "rb") as file:  # noqa: PTH123
        text = file.read()
    files: dict[tuple[int, int], str] = {}
    if DELETED.encode() not in text:
        return files
    for line in text.splitlines():
        if folder in line and line.endswith(DELETED.encode()):
            addresses, _, _, device, inode = line.decode(errors="replace").split()[:5]
            major, minor = (int(part, 16) for part in device.split(":"))
            area = "-".join(part.lstrip("0") or "0" for part in addresses.split("-"))
            files[os.makedev(major, minor), int(inode)] = area
    return files


def _socket_bytes() -> int:
    """Most that one socket can hold unread: twice the largest buffer that may be asked for."""
    largest = 212_992  # where /proc/sys is hidden; the usual one
    with contextlib.suppress(OSError, ValueError):
        largest = int(Path("/proc/sys/net/core/wmem_max").read_text())
    return 2 * largest


SOCKET_BYTES = _socket_bytes()
