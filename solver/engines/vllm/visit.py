"""A visit to a server: a request with its seat, from finding a server to leaving it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from solver.engines.vllm.admission import Seat
from solver.engines.vllm.client import Client
from solver.engines.vllm.fleet import Fleet, Server
from solver.engines.vllm.hosts import ServerLost
from solver.engines.vllm.waiting import CalledOff, Waiter
from solver.errors import EngineError

T = TypeVar("T")

FRUITLESS = 5  # times a request may lose its server in a row without getting anything from one
_FIRST_PAUSE_S = 0.05  # before a request is repeated on a server that works; doubles each time


class Visit(Waiter):
    """Something that wants a server. `trajectory_id` names the prefix it has there, None: no prefix."""

    def __init__(
        self, fleet: Fleet, silence_s: float, trajectory_id: str | None, tokens: int
    ) -> None:
        super().__init__()
        self.fleet, self.silence_s, self.trajectory_id = fleet, silence_s, trajectory_id
        self.seat = Seat(tokens)
        self.retries = 0
        self.server: Server | None = None
        self._generation = 0
        self._fruitless = 0
        self._is_seated = False

    async def sit(self) -> Server:
        """Find a server and take a seat there. Raises `CalledOff`, or `EngineError` if none is left."""
        self.fleet.refuse_if_closing()
        async with self.within(None):
            server = await self.fleet.find(self.trajectory_id, self)
            self.server, self._generation = server, server.generation
            await server.admission.enter(self.seat)
        self._is_seated = True
        return server

    def stand(self) -> None:
        """Leave the server, whatever was going on there."""
        if self.server is not None:
            self.server.visits.discard(self)
            self.server.admission.leave(self.seat)
            self.server = None
        self._is_seated = False
        self.call_on()

    def got_something(self) -> None:
        """The server did something for this visit, so what fails next is a new failure."""
        assert self.server is not None
        self.server.heard()
        self._fruitless = 0

    async def is_working(self, since: float) -> bool:
        """After a silence: whether the server still answers. If not, it is being brought back."""
        reason = f"silent for {self.silence_s:g} s, and no answer to a probe"
        return await self._check(since, reason)

    async def failed(self, error: ServerLost) -> None:
        """The server did not do its part: find out whether it lives, leave it, pause if it does.

        Raises `EngineError` if that has happened too often in a row.
        """
        self.retries += 1
        self._fruitless += 1
        try:
            works = await self._check(asyncio.get_running_loop().time(), str(error))
        finally:
            self.stand()
        self._refuse_if_fruitless(str(error))
        if works:
            async with self.within(None):
                await asyncio.sleep(_FIRST_PAUSE_S * 2**self._fruitless)

    def called_off(self) -> None:
        """Stand up because somebody said so; the loss of a server that was being used counts."""
        self.fleet.refuse_if_closing()
        server = self.server
        lost = server is not None and (not server.is_up or server.generation != self._generation)
        if lost and self._is_seated:
            self.retries += 1
            self._fruitless += 1
        self.stand()
        self._refuse_if_fruitless("its server was lost")

    async def _check(self, since: float, reason: str) -> bool:
        assert self.server is not None
        async with self.within(None):
            return await self.fleet.check(self.server, self._generation, since, reason)

    def _refuse_if_fruitless(self, reason: str) -> None:
        if self._fruitless >= FRUITLESS:
            raise EngineError(
                f"given up after {FRUITLESS} failures in a row without a token: {reason}"
            )


async def ask(visit: Visit, question: Callable[[Client], Awaitable[T]]) -> T:
    """The answer to a question that may be repeated, from whichever server gives one.

    Raises `EngineError`.
    """
    while True:
        try:
            try:
                server = await visit.sit()
                answer = await _patiently(visit, server, question)
                visit.got_something()
                return answer
            except ServerLost as error:
                await visit.failed(error)
        except CalledOff:
            visit.called_off()
        finally:
            visit.stand()


async def _patiently(visit: Visit, server: Server, question: Callable[[Client], Awaitable[T]]) -> T:
    """Wait for an answer for as long as the server works."""
    answer = asyncio.ensure_future(question(server.client))
    try:
        while not answer.done():
            since = asyncio.get_running_loop().time()
            async with visit.within(None):
                await asyncio.wait({answer}, timeout=visit.silence_s)
            if not answer.done() and not await visit.is_working(since):
                raise ServerLost("silent")
        return answer.result()
    finally:
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
