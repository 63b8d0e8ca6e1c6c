"""What the solver says to one kernel and hears from it: Jupyter's messages, read within bounds."""

from __future__ import annotations

import json
import re
import socket
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.limits import Limits
from sandbox.wire import Channel, Traffic

DELIMITER = b"<IDS|MSG>"
PARTS = 6  # delimiter, signature, header, parent's header, metadata, content
HEARD = ("shell", "iopub")
# Of `Limits.accepted_bytes`, in bytes on the wire. A character takes at most 6 of them, and a kernel
# that is as we made it sends within `SENT` a cell, and as much again before the cell.
SENT, READ = 8, 17
OVERHEAD_BYTES = 256 << 10  # what a message may have besides its text


class Message(NamedTuple):
    """`kind` and `parent` (the id of what it answers) are empty where the message is malformed."""

    kind: str
    parent: str
    content: dict[str, Any]


NOTHING = Message("", "", {})
STRUCTURE_BYTES = 16 << 10  # of JSON besides its texts: a million brackets take a third of a second
TEXTS = 1000
TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


class Client:
    """Both channels to one kernel. Nothing is signed: nobody else can reach the sockets."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        """Connect to the sockets that listen in `folder`, and take away their names."""
        self._session = uuid.uuid4().hex
        self._count = 0
        self._most = READ * limits.accepted_bytes
        self._traffic = Traffic(self._most, limits.accepted_bytes + OVERHEAD_BYTES)
        connections = [socket.socket(socket.AF_UNIX) for _ in HEARD]
        try:
            for connection, name in zip(connections, HEARD, strict=True):
                path = folder / name
                connection.connect(str(path))
                path.unlink()
                connection.setblocking(False)
        except BaseException:
            for connection in connections:
                connection.close()
            raise
        self.shell = Channel(connections[0], "DEALER", self._traffic)
        self.iopub = Channel(connections[1], "SUB", self._traffic)

    async def open(self) -> None:
        """Begin to talk. Raises FloodError, ClosedError or OSError."""
        await self.iopub.open()
        await self.shell.open()

    def ask(self, kind: str, **content: object) -> str:
        """Send a request, and count anew what may come; returns its id, its answers' parent.

        Raises ClosedError where the kernel does not read.
        """
        self._traffic.left = self._most
        self._count += 1
        name = f"{self._session}-{self._count}"
        header = {"msg_id": name, "msg_type": kind, "session": self._session, "version": "5.3"}
        parts: tuple[dict[str, object], ...] = (dict(header), {}, {}, content)
        self.shell.send([DELIMITER, b"", *(json.dumps(part).encode() for part in parts)])
        return name

    async def hear(self, channel: Channel) -> Message:
        """The next message. Raises FloodError or ClosedError."""
        parts = await channel.receive()
        try:
            start = parts.index(DELIMITER)
            header, parent, _, content = parts[start + 2 : start + PARTS]
            return Message(
                str(_parsed(header)["msg_type"]),
                str(_parsed(parent).get("msg_id", "")),
                dict(_parsed(content)),
            )
        except Exception:  # anything can be sent to us
            return NOTHING

    def close(self) -> None:
        """Drop both channels; may be called again."""
        self.shell.close()
        self.iopub.close()


def _parsed(part: bytes) -> dict[str, Any]:
    """One part of a message. Raises ValueError where it is more structure than text."""
    if len(part) > STRUCTURE_BYTES and len(TEXT.sub(b"", part, TEXTS)) > STRUCTURE_BYTES:
        raise ValueError("not a message of ours")
    parsed: dict[str, Any] = json.loads(part)
    return parsed
