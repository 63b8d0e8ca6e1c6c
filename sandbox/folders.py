"""Removes a kernel's folder, whatever its cells made of it."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path


def remove_folder(folder: Path) -> None:
    """Delete a folder in which nothing runs any more; never raises.

    Folders that nobody may read and folders nested thousands deep go too: what is below a folder is
    first moved up, so that no path gets long and nothing recurses.
    """
    with contextlib.suppress(OSError):
        folder.chmod(stat.S_IRWXU)
        while inside := list(os.scandir(folder)):
            for entry in inside:
                if entry.is_dir(follow_symlinks=False):
                    _lift(entry.path, folder)
                else:
                    Path(entry.path).unlink()
        folder.rmdir()


def _lift(path: str, folder: Path) -> None:
    """Remove the folder `path`; the folders in it become folders of `folder`."""
    Path(path).chmod(stat.S_IRWXU)
    for entry in list(os.scandir(path)):
        if entry.is_dir(follow_symlinks=False):
            Path(entry.path).chmod(stat.S_IRWXU)  # without which it cannot be moved
            Path(entry.path).rename(folder / uuid.uuid4().hex)
        else:
            Path(entry.path).unlink()
    Path(path).rmdir()
