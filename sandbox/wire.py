"""The solver's half of ZMTP 3.0, by which a kernel speaks: every bound holds while a message is read.

libzmq bounds the size of a part but not how many parts a message has, nor what waits in its queues,
so a kernel could fill the solver with it. Here at most one message is held, and nothing is read that
nobody waits for: the rest stays in the kernel. See https://rfc.zeromq.org/spec/23/.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass

MORE, LONG, COMMAND = 1, 2, 4  # flags of a frame
SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
SUBSCRIBE_TO_ALL = b"\x01"
BUFFERED_BYTES = 64 << 10  # read ahead of what is asked for; asyncio holds up to twice this
MOST_PARTS = 64
LEAST_WEIGHT = 2 << 10  # what the shortest message counts: it takes time, if no memory


class FloodError(Exception):
    """A kernel sends more, or in larger pieces, than is read."""


class ClosedError(Exception):
    """The kernel's end of a channel is closed."""


@dataclass
class Traffic:
    """How many bytes may still come from a kernel, over all its channels; `most` a message."""

    left: int
    most: int

    def take(self, size: int) -> None:
        """Count `size` bytes. Raises FloodError."""
        self.left -= size
        if self.left < 0:
            raise FloodError


class Channel:
    """One connection to a kernel: whole messages, each a list of parts.

    `kind` is the type of our socket, `DEALER` or `SUB`. A channel that raised FloodError or
    ClosedError is of no further use.
    """

    def __init__(self, connection: socket.socket, kind: str, traffic: Traffic) -> None:
        self._connection = connection
        self._kind = kind
        self._traffic = traffic
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Greet, and subscribe to everything. Raises FloodError, ClosedError or OSError."""
        self._reader, self._writer = await asyncio.open_unix_connection(
            sock=self._connection, limit=BUFFERED_BYTES
        )
        kind = self._kind.encode()
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
        self._writer.write(GREETING + bytes([COMMAND, len(ready)]) + ready)
        greeting = await self._read(len(GREETING))
        if not (greeting.startswith(b"\xff") and greeting[10] >= GREETING[10]):
            raise ClosedError("the other end does not speak ZMTP 3")
        flags, _ = await self._frame(self._traffic.most)
        if not flags & COMMAND:
            raise ClosedError("the other end did not greet")
        if self._kind == "SUB":
            self.send([SUBSCRIBE_TO_ALL])

    def send(self, parts: list[bytes]) -> None:
        """Send one message; returns at once. Raises ClosedError where the one before is not read yet."""
        assert self._writer is not None
        if self._writer.transport.get_write_buffer_size():
            raise ClosedError("the other end does not read")
        for number, part in enumerate(parts, 1):
            more = MORE if number < len(parts) else 0
            self._writer.write(struct.pack(">BQ", more | LONG, len(part)) + part)

    async def receive(self) -> list[bytes]:
        """The next message. Raises FloodError or ClosedError."""
        # With data waiting nothing below yields, and nobody's deadline would pass.
        await asyncio.sleep(0)
        self._traffic.take(LEAST_WEIGHT)
        parts: list[bytes] = []
        size = 0
        while True:
            flags, part = await self._frame(self._traffic.most - size)
            if flags & COMMAND:
                return []
            parts.append(part)
            size += len(part)
            if not flags & MORE:
                return parts
            if len(parts) == MOST_PARTS:
                raise FloodError

    def close(self) -> None:
        """Drop the connection, with what is on its way; may be called again."""
        if self._writer is None:
            self._connection.close()
        else:
            self._writer.transport.abort()

    async def _frame(self, most: int) -> tuple[int, bytes]:
        flags, size = await self._read(2)
        if flags & LONG:
            (size,) = struct.unpack(">Q", bytes([size]) + await self._read(7))
        if size > most:
            raise FloodError
        self._traffic.take(size)
        return flags, await self._read(size)

    async def _read(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ClosedError(str(error)) from None
