"""The worker's ends of its pipes: messages out through stdout, tasks in through stdin."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable

from submissions.protocol import MAX_LINE, Message, Task


def sender() -> Callable[[Message], None]:
    """Messages have stdout to themselves: prints of libraries go to stderr from here on."""
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(message: Message) -> None:
        line = message.line()
        with lock:
            while line:  # a raw write may take less than it was given
                line = line[pipe.write(line) or 0 :]

    return send


async def tasks() -> AsyncIterator[Task]:
    """Each task as it comes, until stdin ends."""
    reader = asyncio.StreamReader(limit=MAX_LINE)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    while line := await reader.readline():
        yield Task.model_validate_json(line)
