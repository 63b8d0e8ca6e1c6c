"""What is read of a kernel's messages, and at which bound it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import zmq

from sandbox.client import _parsed
from sandbox.wire import (
    GREETING,
    LEAST_WEIGHT,
    MOST_PARTS,
    Channel,
    ClosedError,
    FloodError,
    Traffic,
)

READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
HELLO = GREETING + b"\x04" + bytes([len(READY)]) + READY
MOST = 10_000


def frame(flags: int, part: bytes) -> bytes:
    return struct.pack(">BQ", flags | 2, len(part)) + part


@contextlib.asynccontextmanager
async def channel(sent: bytes, left: int = 1 << 20) -> AsyncIterator[Channel]:
    """A channel to somebody who says this, and nothing more."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    opened = Channel(ours, "DEALER", Traffic(left, MOST))

    async def talk() -> None:
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(theirs, sent)
            theirs.shutdown(socket.SHUT_WR)

    talking = asyncio.create_task(talk())
    try:
        yield opened
    finally:
        opened.close()
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        theirs.close()


async def test_speaks_with_the_library_itself() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        listening = socket.socket(socket.AF_UNIX)
        name = f"\0test-wire-{os.getpid()}"
        listening.bind(name)
        listening.listen(1)
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(name)
        ours.setblocking(False)
        router.setsockopt(zmq.USE_FD, listening.detach())
        router.bind("ipc:///test")
        opened = Channel(ours, "DEALER", Traffic(1 << 20, MOST))
        await opened.open()
        opened.send([b"one", b"", b"x" * 5000])
        peer, *parts = await asyncio.to_thread(router.recv_multipart)
        assert parts == [b"one", b"", b"x" * 5000]
        router.send_multipart([peer, b"y" * 9000, b""])
        assert await opened.receive() == [b"y" * 9000, b""]
        opened.close()


async def test_who_does_not_read_is_sent_nothing_more() -> None:
    async with channel(HELLO) as opened:
        await opened.open()
        opened.send([bytes(4 << 20)])
        with pytest.raises(ClosedError, match="does not read"):
            opened.send([b""])


async def test_whole_messages_are_read_and_commands_passed_over() -> None:
    said = HELLO + frame(1, b"a") + frame(0, b"b") + frame(4, b"\x04PING") + b"\x00\x02ok"
    async with channel(said) as opened:
        await opened.open()
        assert [await opened.receive() for _ in range(3)] == [[b"a", b"b"], [], [b"ok"]]
        with pytest.raises(ClosedError):
            await opened.receive()


@pytest.mark.parametrize(
    "message",
    [
        frame(1, b"") * 10 * MOST_PARTS,
        frame(0, b"x" * (MOST + 1)),
        frame(1, b"x" * (MOST // 2)) * 3,
        b"\x02" + b"\xff" * 8,
    ],
    ids=["parts", "a large part", "a large message", "a part without end"],
)
async def test_a_message_past_a_bound_is_not_read(message: bytes) -> None:
    async with channel(HELLO + message) as opened:
        await opened.open()
        with pytest.raises(FloodError):
            await opened.receive()


@pytest.mark.parametrize("size", [0, 100, 5000])
async def test_all_messages_together_are_bounded(size: int) -> None:
    left = 40 * LEAST_WEIGHT
    async with channel(HELLO + frame(0, b"x" * size) * 1000, left) as opened:
        await opened.open()
        with pytest.raises(FloodError):
            for _ in range(1000):
                await opened.receive()


async def test_a_flood_lets_others_run() -> None:
    async with channel(HELLO + frame(0, b"") * 1000) as opened:
        await opened.open()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(other())
        for _ in range(100):
            await opened.receive()
        running.cancel()
        assert turns >= 100


@pytest.mark.parametrize(
    "said",
    [b"", b"\xff", b"HTTP/1.1 200 OK" * 10, GREETING + b"\x00\x00", GREETING[:10] + bytes(60)],
)
async def test_who_does_not_greet_is_not_listened_to(said: bytes) -> None:
    async with channel(said) as opened:
        with pytest.raises(ClosedError):
            await opened.open()


async def test_nothing_is_read_ahead_of_what_is_asked_for() -> None:
    async with channel(HELLO + frame(0, b"x" * 9000) * 1000, 1 << 30) as opened:
        await opened.open()
        await asyncio.sleep(0.2)
        assert len(opened._reader._buffer) < 1 << 19  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("part", "taken"),
    [
        (b'{"text": "' + b"x" * 10**6 + b'"}', True),
        (b'{"text": "' + b"\\u0000" * 10**5 + b'"}', True),
        (b'{"a": [' + b"[]," * 10**5 + b"1]}", False),
        (b'{"a": [' + b'"",' * 10**5 + b"1]}", False),
        (b'{"a": "' + b'\\"' * 10**5, False),
        (b"[" * 10**4, False),
    ],
)
def test_what_is_more_structure_than_text_is_not_parsed(part: bytes, taken: bool) -> None:
    if taken:
        assert _parsed(part)["text"]
    else:
        with pytest.raises((ValueError, RecursionError)):
            _parsed(part)
