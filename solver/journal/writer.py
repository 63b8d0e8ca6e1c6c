"""The journal: one event a line, appended as it happens, readable after any crash.

A line is written when its newline is; what follows the last newline was torn by a crash and is
dropped. Writing never crashes a run: the first failure is announced, and the rest goes unrecorded.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

from solver.errors import InputError
from solver.files.whole import lock
from solver.journal.events import Event, RunEnded, Sampled, Solved

# Beyond what float32 sums are worth, or what anybody asks of them; keeps the files small.
_DECIMALS = {"logprobs": 6, "confidences": 3, "entropies": 3}


class JournalWriter:
    """Appends events; the only writer of its file, which it locks until `close`.

    It stops, as at a failure, before the disk has less than `keep_free` bytes left.
    """

    def __init__(
        self, path: Path, on_failure: Callable[[str], None], *, keep_free: int = 0
    ) -> None:
        self._path = path
        self._keep_free = keep_free
        self._on_failure = on_failure
        self._failed = False
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None
        if not lock(self._file):
            self._file.close()
            raise InputError(f"{path.parent} is in use by a run that has not ended")

    def record(self, event: Event) -> None:
        """Append one event. Answers and the end of the run are on disk when this returns."""
        self.append(journal_line(event), durable=isinstance(event, Solved | RunEnded))

    def append(self, lines: bytes, *, durable: bool = False) -> None:
        """Append whole lines of the journal; with `durable` they are on disk when this returns."""
        if self._failed:
            return
        try:
            self._check_space(len(lines))
            while lines:  # a raw write may take less than it was given
                lines = lines[self._file.write(lines) or 0 :]
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._failed = True
            self._on_failure(
                f"cannot write {self._path}: {error.strerror}; the run goes on, but a resume will"
                " solve again what is not recorded from here on"
            )

    def _check_space(self, needed: int) -> None:
        if not self._keep_free:
            return
        disk = os.fstatvfs(self._file.fileno())
        if disk.f_bavail * disk.f_frsize - needed < self._keep_free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file and give up the lock."""
        self._file.close()


def journal_line(event: Event) -> bytes:
    """An event as a line of the journal, with its newline."""
    fields = event.model_dump()
    if isinstance(event, Sampled):
        for name, decimals in _DECIMALS.items():
            if fields[name] is None:
                del fields[name]
            else:
                fields[name] = [round(value, decimals) for value in fields[name]]
    # Half characters (lone surrogates) in a tool's output become "?": UTF-8 cannot encode them.
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"
