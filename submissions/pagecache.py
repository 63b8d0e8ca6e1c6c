"""Reads weights with many threads into the page cache, so that the model then loads from memory.

One thread gets a fraction of a network disk's bandwidth; 16 of them read 65 GB in one to two minutes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

_THREADS = 16
_PIECE = 256 << 20  # bytes that one thread reads on its own
_BLOCK = 8 << 20


def warm_up(folder: Path, say: Callable[[str], None] = print) -> threading.Thread | None:
    """Start reading the folder's safetensors in the background; None if memory is too small for them.

    Loading works without it too, so files that cannot be read are skipped.
    """
    pieces = [
        (file, offset, min(_PIECE, size - offset))
        for file in sorted(folder.glob("*.safetensors"))
        for size in [file.stat().st_size]
        for offset in range(0, size, _PIECE)
    ]
    total = sum(length for _, _, length in pieces)
    if total > psutil.virtual_memory().available:
        say(f"warm-up: {total / 1e9:.1f} GB of weights do not fit into memory, left out")
        return None

    def read_all() -> None:
        started = time.monotonic()
        with ThreadPoolExecutor(_THREADS) as pool:
            done = sum(pool.map(lambda piece: _read(*piece), pieces))
        say(f"warm-up: {done / 1e9:.1f} GB in {time.monotonic() - started:.0f} s")

    thread = threading.Thread(target=read_all, name="warm-up", daemon=True)
    thread.start()
    return thread


def _read(file: Path, offset: int, length: int) -> int:
    """Read a piece and discard it; returns how many bytes could be read."""
    done = 0
    with contextlib.suppress(OSError), file.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while done < length and (block := stream.read(min(_BLOCK, length - done))):
            done += len(block)
    return done
