"""Files of JSON objects, one a line, that only grow: a header, then what happened in its order.

A line is written when its newline is, so a reader drops what follows the last newline (a crash tore
it), and a writer cuts it off before it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from solver.errors import InputError
from solver.files.whole import write_whole


class JsonlFile:
    """A file that begins with a header and is appended to, also by later processes."""

    def __init__(self, path: Path, header: str, check: Callable[[list[bytes]], None]) -> None:
        """Create the file with the line `header`, or go on with what stands in it.

        `check` gets the whole lines of a file that is there, the header first, and raises if it is
        not to be gone on with; the file is then left as it is. Raises `InputError` for OS errors.
        """
        self._path = path
        try:
            if path.exists() and path.stat().st_size:
                check(whole_lines(path))
                repair(path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, header + "\n")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None

    def append(self, line: str) -> None:
        """Add a line. Raises `InputError`."""
        try:
            with self._path.open("ab") as file:
                file.write(line.encode() + b"\n")
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from None


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that have their newline, without it. Raises OSError."""
    return path.read_bytes().split(b"\n")[:-1]


def repair(path: Path) -> None:
    """Cut off a torn last line, so that the next begins on a line of its own. Raises OSError."""
    with path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
