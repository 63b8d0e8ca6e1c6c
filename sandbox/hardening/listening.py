"""The sockets on which a kernel is spoken to, made before it is confined."""

from __future__ import annotations

import socket
from pathlib import Path


def listen(folder: Path, names: tuple[str, ...]) -> list[socket.socket]:
    """Sockets that listen under these names in `folder`. Raises OSError."""
    made: list[socket.socket] = []
    try:
        for name in names:
            made.append(socket.socket(socket.AF_UNIX))
            made[-1].bind(str(folder / name))
            made[-1].listen(1)
    except BaseException:
        for each in made:
            each.close()
        raise
    return made
