"""Watches what kernels use that no resource limit bounds: a tree's memory and processes, a folder."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sandbox.limits import Limits

POLL_S = 0.5
PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
ENTRY_BYTES = 4096  # what a file or folder counts at least
DEEPEST = 64  # folders below folders; deeper ones are there to hide something


@dataclass(frozen=True)
class Watched:
    """A running kernel: its process and its folder."""

    pid: int
    folder: Path


@dataclass
class Usage:
    """What a kernel and all that it started hold, in bytes of resident memory."""

    pids: list[int] = field(default_factory=list)
    memory: int = 0


def violations(kernels: list[Watched], limits: Limits) -> dict[Watched, str]:
    """Which of the kernels must be stopped, and why. Takes some milliseconds: not for the event loop."""
    found: dict[Watched, str] = {}
    usages = _usages(kernels)
    for kernel, usage in usages.items():
        gib = limits.resident_bytes / 2**30
        if usage.memory > limits.resident_bytes and _memory(usage.pids) > limits.resident_bytes:
            found[kernel] = f"more than {gib:g} GiB of memory"
        elif len(usage.pids) > limits.processes:
            found[kernel] = f"more than {limits.processes} processes"
        elif _stored(kernel.folder, usage.pids, limits.folder_bytes) > limits.folder_bytes:
            found[kernel] = f"more than {limits.folder_bytes >> 20} MiB of files"
    if psutil.virtual_memory().available < limits.floor_bytes and not found and usages:
        largest = max(usages, key=lambda kernel: usages[kernel].memory)
        found[largest] = "the machine's memory is nearly used up"
    return found


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
    for entry in os.scandir(PROC):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                if text[0] != b"Z":
                    found.append((int(entry.name), int(text[1]), int(text[21]) * PAGE))
    return found


def _memory(pids: list[int]) -> int:
    """What the processes hold together: what forks share is counted once, unlike in their sum."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total if sys.platform == "linux" else sys.maxsize


def _stored(folder: Path, pids: list[int], enough: int) -> int:
    """Bytes on the disk below `folder`, and in files from there that have no name any more.

    Counting stops when it is `enough`. A folder that cannot be read counts as too much.
    """
    total = 0
    folders = [(str(folder), 0)]
    while folders and total <= enough:
        path, depth = folders.pop()
        if depth > DEEPEST:
            return sys.maxsize
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
            return sys.maxsize
    if sys.platform == "linux":
        total += sum(_nameless(pid, str(folder)) for pid in pids)
    return total


def _nameless(pid: int, folder: str) -> int:
    total = 0
    with contextlib.suppress(OSError), os.scandir(PROC / str(pid) / "fd") as descriptors:
        for entry in descriptors:
            with contextlib.suppress(OSError):
                target = str(Path(entry.path).readlink())
                if target.startswith(folder) and target.endswith(" (deleted)"):
                    total += entry.stat().st_blocks * 512
    return total
