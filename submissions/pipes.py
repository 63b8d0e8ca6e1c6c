"""The worker's side of its pipes: it writes messages to stdout and reads tasks from stdin."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable

from submissions.protocol import MAX_LINE, Message, Task


def sender() -> Callable[[Message], None]:
    """A function that writes a message to stdout; from now on all other output goes to stderr."""
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
    """The tasks in order of arrival, until stdin ends."""
    reader = asyncio.StreamReader(limit=MAX_LINE)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    while line := await reader.readline():
        yield Task.model_validate_json(line)
