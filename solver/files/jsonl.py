"""Files of JSON objects, one a line, that only grow: a header, then what happened in its order.

A line is written when its newline is, so a reader drops what follows the last newline (a crash tore
it), and a writer cuts it off before it goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from solver.errors import InputError
from solver.files.whole import lock, write_whole


class JsonlFile:
    """A file that begins with a header and is appended to, also by later processes."""

    def __init__(
        self,
        path: Path,
        header: str,
        check: Callable[[list[bytes]], None],
        *,
        alone: bool = True,
    ) -> None:
        """Create the file with the line `header`, or go on with what stands in it.

        `check` gets the whole lines of a file that is there, the header first, and raises if it is
        not to be gone on with; the file is then left as it is. With `alone`, others are shut out until it is
        closed. Raises `InputError` for OS errors and for a file that another process has open so.
        """
        self._path = path
        self._lock: IO[bytes] | None = None
        try:
            if not path.exists() or not path.stat().st_size:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, header + "\n")
            if alone:
                self._lock = _locked(path)
            check(whole_lines(path))
            repair(path)
        except OSError as error:
            self.close()
            raise InputError(f"cannot write {path}: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def append(self, line: str) -> None:
        """Add a line. Raises `InputError`."""
        try:
            with self._path.open("ab") as file:
                file.write(line.encode() + b"\n")
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from None

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.close()


def _locked(path: Path) -> IO[bytes]:
    """The file, locked until it is closed. Raises `InputError` if another process has it, and OSError."""
    file = path.open("ab")  # some file systems lock for writers only
    # another process may have put a file of its own there since
    if not lock(file) or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
        file.close()
        raise InputError(f"{path} is in use by a command that has not ended")
    return file


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that have their newline, without it. Raises OSError."""
    return path.read_bytes().split(b"\n")[:-1]


def repair(path: Path) -> None:
    """Cut off a torn last line, so that the next begins on a line of its own. Raises OSError."""
    with path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
