"""Where a submission keeps its files: the folder that it is told, or the next place that can be used.

A folder is passed over if it holds a run with other settings, if a living process writes into it, if it
cannot be written, or if its disk is full. After the numbered names beside it come the temporary folder and,
at last, memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from solver.config import SolverConfig
from solver.errors import InputError
from solver.files.whole import write_whole
from solver.runs.settings import differing_key

KEPT_FREE = (
    8 << 20
)  # bytes of the disk that no log may use: the gateway's file is written there last
JOURNAL = "journal.jsonl"
_RESERVE, _RESERVED = "reserve", 1 << 20  # a file of so many bytes
_MEMORY = Path("/dev/shm")
_NUMBERS = 20


def open_run_folder(folder: Path, config: SolverConfig) -> tuple[Path | None, list[str]]:
    """A folder with `config` in it that a worker can write into, and why others were passed over.

    A folder that holds a run with the same settings is gone on with. None if there is no place at all.
    """
    passed: dict[str, str] = {}
    for candidate in _candidates(folder):
        try:
            why = _unusable(candidate, config)
        except OSError as error:
            why = error.strerror or str(error)
        except (InputError, ValueError) as error:
            why = str(error).splitlines()[0]
        if why is None:
            return candidate, [f"{path}: {reason}" for path, reason in passed.items()]
        passed.setdefault(str(candidate), why)
    return None, [f"{path}: {reason}" for path, reason in passed.items()]


def reserve_space(folder: Path) -> None:
    """Keep a piece of the folder's disk for the gateway's file, whatever else may fill the disk."""
    with contextlib.suppress(OSError), (folder / _RESERVE).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, _RESERVED)


def release_space(folder: Path) -> None:
    """Give that piece back once the disk has less left than it."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(folder).free < _RESERVED:
            (folder / _RESERVE).unlink(missing_ok=True)


def _candidates(folder: Path) -> Iterator[Path]:
    places = [folder.parent]
    with contextlib.suppress(OSError):  # where no temporary folder can be written
        places.append(Path(tempfile.gettempdir()))
    for place in dict.fromkeys([*places, _MEMORY]):
        for number in range(1, _NUMBERS + 1):
            yield place / (folder.name if number == 1 else f"{folder.name}-{number}")


def _unusable(folder: Path, config: SolverConfig) -> str | None:
    """Make the folder ready, or say why it cannot be used. Raises what the attempt raises."""
    kept = folder / "config.json"
    if kept.exists():
        before = SolverConfig.model_validate_json(kept.read_bytes())
        if (key := differing_key(before, config)) is not None:
            return f"it holds a run with another {key}"
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < 2 * KEPT_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (folder / JOURNAL).open("ab") as journal:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "another process writes into it"
    if not kept.exists():
        write_whole(kept, config.model_dump_json(indent=2) + "\n")
    return None
