"""Removes a kernel's folder, whatever its cells made of it."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_folder(folder: Path) -> None:
    """Delete a folder; never raises.

    Folders that nobody may read and folders nested thousands deep go too: what is below a folder is
    first moved up, so that no path gets long and nothing recurses. Nothing outside of it is touched, even if
    something still runs in it and puts links in the place of folders.
    """
    with contextlib.suppress(OSError):
        with _opened(folder, None) as root:
            while inside := list(os.scandir(root)):
                for entry in inside:
                    if entry.is_dir(follow_symlinks=False):
                        _lift(entry.name, root)
                    else:
                        os.unlink(entry.name, dir_fd=root)
        folder.rmdir()


def _lift(name: str, root: int) -> None:
    """Remove the folder `name` of the folder `root`; the folders in it become folders of `root`."""
    with _opened(name, root) as folder:
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False):
                with _opened(entry.name, folder):  # which may be written now, and so moved
                    os.rename(entry.name, uuid.uuid4().hex, src_dir_fd=folder, dst_dir_fd=root)
            else:
                os.unlink(entry.name, dir_fd=folder)
    os.rmdir(name, dir_fd=root)


@contextlib.contextmanager
def _opened(name: str | Path, parent: int | None) -> Iterator[int]:
    """A folder, opened however it is closed to us, and never through a link. Raises OSError."""
    if sys.platform == "linux":
        place = os.open(name, os.O_PATH | _FOLDER, dir_fd=parent)
        try:
            Path(f"/proc/self/fd/{place}").chmod(stat.S_IRWXU)
            opened = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=place)
        finally:
            os.close(place)
    else:
        os.chmod(name, stat.S_IRWXU, dir_fd=parent, follow_symlinks=False)
        opened = os.open(name, os.O_RDONLY | _FOLDER, dir_fd=parent)
    try:
        yield opened
    finally:
        os.close(opened)
