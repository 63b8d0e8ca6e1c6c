"""Writes files and folders in one step: either all of the content is there, or the old content is."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from solver.errors import ConfigError, InputError


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` in one step, flushed to disk. Raises `InputError` if that fails."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def replace_folder(target: Path, write: Callable[[Path], None], *, marker: str) -> None:
    """Let `write` fill a temporary folder beside `target`, then put it in the place of `target`.

    An existing `target` is only replaced if it is empty or holds the file `marker`, which says that
    it is one of ours. If anything fails, `target` is as it was. Raises `ConfigError`.
    """
    from safetensors import SafetensorError  # 50 ms that those who only write texts need not wait

    target = target.absolute()
    check_replaceable(target, marker)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ConfigError(f"cannot write beside {target}: {error.strerror}") from None
    old = fresh.with_name(fresh.name + ".old")
    try:
        write(fresh)
        fresh.chmod(0o755)  # mkdtemp's folders and safetensors' files are private
        for file in fresh.iterdir():
            file.chmod(0o644)
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot write {target}: {reason}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)  # only now that its successor is in place


def check_replaceable(target: Path, marker: str) -> None:
    """Raise `ConfigError` for a folder that `replace_folder` would refuse, before the work is done."""
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file, not a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():
        raise ConfigError(f"{target} holds other files (no {marker}): it is not overwritten")


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `InputError` if `path` is there and `--force` is not given."""
    if path.exists() and not force:
        raise InputError(f"{path} exists; --force replaces it")


def lock(file: IO[bytes]) -> bool:
    """Shut other processes out of a file until it is closed; False if one has shut us out.

    Where the file system cannot lock, nobody is.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write a small file and see it to the disk."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
