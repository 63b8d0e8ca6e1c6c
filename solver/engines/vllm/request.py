"""One request: finds a server, takes a slot there, survives the loss of the server, and leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from solver.engines.vllm.admission import Slot
from solver.engines.vllm.client import Client
from solver.engines.vllm.fleet import Fleet, Server
from solver.engines.vllm.hosts import ServerLost
from solver.engines.vllm.waiting import WaitCancelled, Waiter
from solver.errors import EngineError

T = TypeVar("T")

MAX_FAILURES = (
    5  # failures in a row, without a token between them, after which a request is given up
)
_FIRST_PAUSE_S = 0.05  # pause before a request is repeated on a working server; doubles each time


class Request(Waiter):
    """A request that needs a server; `trajectory_id` says whose cached prefix it uses (None: it uses none).

    `silence_s` is how long a server may send nothing before it is probed.
    """

    def __init__(
        self, fleet: Fleet, silence_s: float, trajectory_id: str | None, tokens: int
    ) -> None:
        super().__init__()
        self.fleet, self.silence_s, self.trajectory_id = fleet, silence_s, trajectory_id
        self.slot = Slot(tokens)
        self.retries = 0
        self.server: Server | None = None
        self._generation = 0
        self._failures = 0
        self._is_admitted = False

    async def acquire(self) -> Server:
        """Find a server and wait for a slot there.

        Raises `WaitCancelled`, or `EngineError` if every server is given up.
        """
        self.fleet.refuse_if_closing()
        async with self.within(None):
            server = await self.fleet.find(self.trajectory_id, self)
            self.server, self._generation = server, server.generation
            await server.admission.acquire(self.slot)
        self._is_admitted = True
        return server

    def leave(self) -> None:
        """Free the slot and forget the server; safe to call at any time."""
        if self.server is not None:
            self.server.requests.discard(self)
            self.server.admission.release(self.slot)
            self.server = None
        self._is_admitted = False
        self.reset()

    def record_progress(self) -> None:
        """The server served this request: its failures in a row are counted from 0 again."""
        assert self.server is not None
        self.server.record_activity()
        self._failures = 0

    async def check_works(self, since: float) -> bool:
        """Whether a silent server still works; if not, its recovery has been started."""
        reason = f"silent for {self.silence_s:g} s, and no answer to a probe"
        return await self._check(since, reason, silent=True)

    async def failed(self, error: ServerLost) -> None:
        """After a failed attempt: probe the server, leave it, and pause if it still works.

        Raises `EngineError` after `MAX_FAILURES` failures in a row.
        """
        self.retries += 1
        self._failures += 1
        try:
            works = await self._check(asyncio.get_running_loop().time(), str(error))
        finally:
            self.leave()
        self._give_up_after_failures(str(error))
        if works:
            async with self.within(None):
                await asyncio.sleep(_FIRST_PAUSE_S * 2**self._failures)

    def handle_cancelled_wait(self) -> None:
        """Leave the server; counts a retry and a failure if it was lost while it was in use.

        Raises `Closing`, or `EngineError` after `MAX_FAILURES` failures in a row.
        """
        self.fleet.refuse_if_closing()
        server = self.server
        lost = server is not None and (not server.is_up or server.generation != self._generation)
        if lost and self._is_admitted:
            self.retries += 1
            self._failures += 1
        self.leave()
        self._give_up_after_failures("its server was lost")

    async def _check(self, since: float, reason: str, *, silent: bool = False) -> bool:
        assert self.server is not None
        async with self.within(None):
            return await self.fleet.check(
                self.server, self._generation, since, reason, silent=silent
            )

    def _give_up_after_failures(self, reason: str) -> None:
        if self._failures >= MAX_FAILURES:
            raise EngineError(
                f"given up after {MAX_FAILURES} failures in a row without a token: {reason}"
            )


async def complete(request: Request, send: Callable[[Client], Awaitable[T]]) -> T:
    """The result of `send`, which is repeated on another server when one is lost.

    Raises `EngineError`.
    """
    while True:
        try:
            try:
                server = await request.acquire()
                answer = await _await_answer(request, server, send)
                request.record_progress()
                return answer
            except ServerLost as error:
                await request.failed(error)
        except WaitCancelled:
            request.handle_cancelled_wait()
        finally:
            request.leave()


async def _await_answer(
    request: Request, server: Server, send: Callable[[Client], Awaitable[T]]
) -> T:
    """Wait for the answer as long as the server answers probes."""
    answer = asyncio.ensure_future(send(server.client))
    try:
        while not answer.done():
            since = asyncio.get_running_loop().time()
            async with request.within(None):
                await asyncio.wait({answer}, timeout=request.silence_s)
            if not answer.done() and not await request.check_works(since):
                raise ServerLost("silent")
        return answer.result()
    finally:
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
