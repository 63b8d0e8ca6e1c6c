"""Counts what kernels hold, by /proc: the memory and the files of a tree of processes.

Pages and what describes them, pipes, sockets, locks, files with and without a name: all that the filter
in `hardening` leaves possible. What cannot be looked into counts as too much.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

from sandbox import groups

TOO_MUCH = sys.maxsize
PAGE = os.sysconf("SC_PAGE_SIZE")
PROCESS_BYTES = 4 << 20  # of the system's own for a process: stacks, descriptors, what it waits for
AREAS = 1 << 16  # of memory that a process can have
# Of the system's own for an area, and for each process that it may have come from by forks.
AREA_BYTES, ANCESTOR_BYTES = 512, 80
TABLE_SHARE = 512  # page tables take at most this part of all addresses
PIPE_BYTES = 64 << 10  # a pipe's size, which the filter keeps
PROC_FILE_BYTES = (
    32 << 10
)  # what an open file of /proc may keep of its text: a line with a long path
LOCK_BYTES = 256
ENTRY_BYTES = 8192  # what a file or folder counts at least
DEEPEST = 64  # folders below folders; deeper ones are there to hide something
DELETED = b" (deleted)"  # how /proc ends the path of a file that has no name any more
EVENT_POLL = "anon_inode:[eventpoll]"
STATE, PARENT, SIZE, RESIDENT = 0, 1, 20, 21  # of `stat`


class Process(NamedTuple):
    """`resident` and the `locks` of files in bytes."""

    pid: int
    parent: int
    resident: int
    locks: int = 0


def trees(leaders: Iterable[int]) -> dict[int, list[Process]]:
    """What each of these started, itself first; one that is gone holds nothing."""
    everything = {process.pid: process for process in _processes()}
    below: dict[int, list[Process]] = defaultdict(list)
    for process in everything.values():
        below[process.parent].append(process)
    found = {}
    for leader in leaders:
        found[leader] = [everything.get(leader, Process(leader, 0, 0))]
        for process in found[leader]:
            found[leader] += below[process.pid]
    return found


def most_memory(processes: list[Process], addresses: int, open_files: int) -> int:
    """Bytes that a tree holds at most, as far as they can be told without a closer look.

    Not its /dev/shm, and not what is in the swap. `addresses` and `open_files` are what each process
    may have.
    """
    described = AREAS * _area_bytes(processes) + addresses // TABLE_SHARE
    besides = PROCESS_BYTES + described + open_files * SOCKET_BYTES
    return sum(process.resident + process.locks + besides for process in processes)


def memory(processes: list[Process], enough: int, *, readable: bool) -> int:
    """Bytes that a tree holds: pages (what forks share counts once), its /dev/shm, full pipes and sockets.

    Counting stops when it is `enough`. `readable`: whoever cannot be looked into hides something.
    """
    if sys.platform != "linux":
        return sum(process.resident for process in processes)
    total = _shared_memory(processes[0].pid)
    proc = Path("/proc").stat().st_dev
    opened: dict[tuple[int, int], int] = {}
    for process in processes:
        if total > enough:
            break
        total += PROCESS_BYTES + process.locks
        try:
            thread = _living_thread(process.pid)
            total += _pages(thread) + _area_bytes(processes) * _maps(thread).count(b"\n")
            ends = [end for _, end in _descriptors(thread)]
            total += PROC_FILE_BYTES * sum(end.st_dev == proc for end in ends)
            opened |= {(end.st_dev, end.st_ino): end.st_mode for end in ends}
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            if readable and _holds_memory(process.pid):
                return TOO_MUCH
            total += process.resident
    kinds = list(opened.values())
    total += PIPE_BYTES * sum(map(stat.S_ISFIFO, kinds))
    return total + SOCKET_BYTES * sum(map(stat.S_ISSOCK, kinds))


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


def watches(processes: list[Process], enough: int) -> int:
    """How many descriptors the event polls of a tree watch; counting stops when it is `enough`.

    A file may be watched under every number that it ever had, and all that a user's event polls watch
    together is limited. Those of who cannot be looked into are not counted.
    """
    if sys.platform != "linux":
        return 0
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            thread = _living_thread(process.pid)
            for name in os.listdir(f"{thread}/fd"):  # noqa: PTH208
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(f"{thread}/fd/{name}") == EVENT_POLL:  # noqa: PTH115
                        total += _content(f"{thread}/fdinfo/{name}").count(b"\ntfd:")
        if total > enough:
            break
    return total


def ran(processes: list[Process]) -> list[str]:
    """For how long each thread of a tree ran, to the nanosecond: nothing can be started in no time.

    Raises OSError where that is not known.
    """
    found = []
    for process in processes:
        tasks = f"/proc/{process.pid}/task"
        for name in os.listdir(tasks):  # noqa: PTH208
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(f"{name} {_content(f'{tasks}/{name}/schedstat')!r}")
    return found


def available_memory() -> int:
    """Bytes that are left on this machine, or in the container that limits this process."""
    left = int(psutil.virtual_memory().available)
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            folder = Path("/sys/fs/cgroup")
            left = min(left, int((folder / most).read_text()) - groups.held(folder, used))
    return left


def swapped() -> bool:
    """Whether the machine has anything in its swap, where no process's resident pages are."""
    return bool(psutil.swap_memory().used)


def _processes() -> list[Process]:
    """Everything that runs."""
    if sys.platform != "linux":
        return list(map(_asked, psutil.process_iter(["ppid", "memory_info"])))
    found = []
    locks = _locks()
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
                        LOCK_BYTES * locks.get(name.encode(), 0),
                    )
                )
    return found


def _asked(process: psutil.Process) -> Process:
    """The same where there is no /proc."""
    memory = process.info["memory_info"]
    return Process(process.pid, process.info["ppid"] or 0, memory.rss if memory else 0)


def _stat(process: str) -> list[bytes]:
    """The fields of `stat` from the state on."""
    return _content(f"{process}/stat").rpartition(b")")[2].split()


def _content(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - a third of the time
        return file.read()


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


def _area_bytes(processes: list[Process]) -> int:
    """Of the system's own for an area of memory: Linux lists for it every process that it came from."""
    return AREA_BYTES + ANCESTOR_BYTES * len(processes)


def _pages(thread: str) -> int:
    """Bytes of its pages, each divided by how many map it, and of their tables."""
    total = 0
    for name in ("smaps_rollup", "status"):
        for line in Path(thread, name).read_text().splitlines():
            if line.startswith(("Pss:", "SwapPss:", "VmPTE:")):
                total += int(line.split()[1]) << 10
    return total


def _maps(thread: str) -> bytes:
    """Every area of its memory, a line each."""
    # A thread's number names its process too, and that shows what all of its threads map.
    return _content(f"/proc/{thread.rpartition('/')[2]}/maps")


def _shared_memory(pid: int) -> int:
    """What is stored in the /dev/shm that a process sees, if that is not our own."""
    with contextlib.suppress(OSError):
        theirs = Path(f"/proc/{pid}/root/dev/shm")
        if theirs.stat().st_dev != Path("/dev/shm").stat().st_dev:
            space = os.statvfs(theirs)
            return (space.f_blocks - space.f_bfree) * space.f_frsize
    return 0


def _descriptors(thread: str) -> list[tuple[str, os.stat_result]]:
    """Where /proc has each descriptor of a process, and what it refers to."""
    found = []
    for name in os.listdir(f"{thread}/fd"):  # noqa: PTH208
        path = f"{thread}/fd/{name}"
        with contextlib.suppress(FileNotFoundError):
            found.append((path, os.stat(path)))  # noqa: PTH116 - a third of the time
    return found


def _open_and_deleted(thread: str, folder: str) -> dict[tuple[int, int], int]:
    """Bytes of each file, by its device and number."""
    files = {}
    for path, found in _descriptors(thread):
        if found.st_nlink == 0 and stat.S_ISREG(found.st_mode):
            with contextlib.suppress(FileNotFoundError):
                if str(Path(path).readlink()).startswith(folder):
                    files[found.st_dev, found.st_ino] = found.st_blocks * 512
    return files


def _mapped_and_deleted(thread: str, folder: bytes) -> dict[tuple[int, int], str]:
    """Where each file is mapped, as `map_files` names it, by its device and number."""
    files: dict[tuple[int, int], str] = {}
    if DELETED not in (text := _maps(thread)):
        return files
    for line in text.splitlines():
        if folder in line and line.endswith(DELETED):
            addresses, _, _, device, inode = line.decode(errors="replace").split()[:5]
            major, minor = (int(part, 16) for part in device.split(":"))
            area = "-".join(part.lstrip("0") or "0" for part in addresses.split("-"))
            files[os.makedev(major, minor), int(inode)] = area
    return files


def _locks() -> dict[bytes, int]:
    """How many ranges of files each process has locked."""
    found: dict[bytes, int] = defaultdict(int)
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_bytes().splitlines():
            _, _, lock = line.partition(b"POSIX")
            if lock:
                found[lock.split()[2]] += 1
    return found


def _socket_bytes() -> int:
    """Most that one socket can hold: twice the largest buffer that may be asked for, and its options."""
    sizes = []
    for name, usual in (("wmem_max", 212_992), ("optmem_max", 131_072)):
        try:
            sizes.append(int(Path("/proc/sys/net/core", name).read_text()))
        except (OSError, ValueError):  # where /proc/sys is hidden
            sizes.append(usual)
    return 2 * sizes[0] + sizes[1]


SOCKET_BYTES = _socket_bytes()
