"""Watches what kernels use that no resource limit bounds: memory, processes, watches, a folder.

Two threads of its own look twice a second, one at memory and one at folders, so that neither waits for
the other, nor for whatever else the solver does.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import groups
from sandbox.limits import Limits
from sandbox.usage import (
    Process,
    available_memory,
    memory,
    most_memory,
    nameless,
    ran,
    stored,
    swapped,
    trees,
    watches,
)

log = logging.getLogger(__name__)

POLL_S = 0.5
MOST_WATCHES = 1 << 14  # far more than 256 descriptors need, far fewer than a user may have


@dataclass(frozen=True)
class Watched:
    """A running kernel: its process, its folder, and whether its processes can be looked into.

    Where they can (not in a container whose root may not trace), one that cannot hides something.
    `group` is its control group, by which Linux counts its memory. Until it is `used` no cell has run in it.
    """

    pid: int
    folder: Path
    readable: bool = True
    group: Path | None = None
    used: bool = field(default=True, compare=False)


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
        looks: dict[str, Look] = {"memory": too_much_memory, "files": FileLook()}
        self._threads = [
            threading.Thread(target=self._keep, args=(look,), name=f"watch {name}", daemon=True)
            for name, look in looks.items()
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


def too_much_memory(kernels: list[Watched], limits: Limits) -> dict[Watched, str]:
    """Which of the kernels hold too much memory, or run or watch too many things, with the reason.

    When the machine has too little left, the one that holds most.
    """
    found: dict[Watched, str] = {}
    if not kernels:
        return found
    running = trees(kernel.pid for kernel in kernels)
    scarce = available_memory() < limits.floor_bytes
    closer = scarce or swapped()
    held: dict[Watched, int] = {}
    for kernel in kernels:
        processes = running[kernel.pid]
        most = most_memory(processes, limits.memory_bytes, limits.open_files) + limits.shm_bytes
        if closer or kernel.group or most > limits.resident_bytes:
            held[kernel] = _held(kernel, processes, limits.resident_bytes)
        if held.get(kernel, 0) > limits.resident_bytes:
            found[kernel] = f"more than {limits.resident_bytes / 2**30:g} GiB of memory"
        elif len(processes) > limits.processes:
            found[kernel] = f"more than {limits.processes} processes"
        elif kernel.used and watches(processes, MOST_WATCHES) > MOST_WATCHES:
            found[kernel] = f"more than {MOST_WATCHES} watched descriptors"
    if scarce and not found:
        found[max(held, key=lambda kernel: held[kernel])] = "the machine's memory is nearly used up"
    return found


def _held(kernel: Watched, processes: list[Process], enough: int) -> int:
    if kernel.group is not None:
        with contextlib.suppress(OSError, ValueError):
            return groups.held(kernel.group)
    return memory(processes, enough, readable=kernel.readable)


class FileLook:
    """Which of the kernels keep more files than they may, with the reason.

    One that has not run since the last look keeps what it kept then.
    """

    def __init__(self) -> None:
        self._seen: dict[Watched, list[str]] = {}

    def __call__(self, kernels: list[Watched], limits: Limits) -> dict[Watched, str]:
        """Look at those that have run."""
        kernels = [kernel for kernel in kernels if kernel.used]
        before, self._seen = self._seen, {}
        found: dict[Watched, str] = {}
        running = trees(kernel.pid for kernel in kernels)
        for kernel in kernels:
            processes = running[kernel.pid]
            with contextlib.suppress(OSError):
                self._seen[kernel] = ran(processes)
                if before.get(kernel) == self._seen[kernel]:
                    continue
            if self._too_many(kernel, processes, limits):
                found[kernel] = f"more than {limits.folder_bytes >> 20} MiB of files"
                self._seen.pop(kernel, None)
        return found

    def _too_many(self, kernel: Watched, processes: list[Process], limits: Limits) -> bool:
        most = limits.folder_bytes
        kept = stored(kernel.folder, most)
        if kept <= most:
            kept += nameless(kernel.folder, processes, limits.file_bytes, readable=kernel.readable)
        return kept > most
