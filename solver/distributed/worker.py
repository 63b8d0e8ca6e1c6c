"""One engine with its kernels, that works on the tasks it is given: the actor, without Ray.

It is opened by its first call, not when it is made, so that a machine that is unfit is known before a
model is loaded, and a restarted actor opens itself again.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from solver.cli.leftovers import hide_leftovers
from solver.clock import MonotonicClock
from solver.config import SolverConfig
from solver.distributed.node import Installation, why_unfit
from solver.distributed.tasks import Batch, Task
from solver.errors import RunError, UserError, named
from solver.journal.events import Event
from solver.journal.writer import journal_line
from solver.solving.services import Services

Build = Callable[..., AbstractAsyncContextManager[Services]]

BATCH_S = 0.25  # events are sent together that happen within so many seconds


@dataclass(frozen=True, slots=True)
class Hello:
    """What an actor says once it is open, or why it must not be used (`refusal`)."""

    node: str
    pid: int
    refusal: str = ""
    engine: dict[str, str | int] | None = None
    isolation: str = ""
    said: tuple[str, ...] = ()


class ActorLost(RunError):
    """An actor's process or node ended; `for_good` if it will not be started again."""

    def __init__(self, what: str, *, for_good: bool = False) -> None:
        super().__init__(what)
        self.for_good = for_good


class Worker:
    """Engine, scorer and kernels of one device. `expected` is what the driver has installed."""

    def __init__(
        self, config: SolverConfig, expected: Installation, build: Build | None = None
    ) -> None:
        """`build` opens the services; default: `solver.build.services`."""
        self._config = config
        self._build = build
        self._expected = expected
        self._stack = AsyncExitStack()
        self._services: Services | None = None
        self._hello: asyncio.Future[Hello] | None = None
        self._stopping = asyncio.Event()
        self._outboxes: list[_Outbox] = []
        self._said: list[str] = []

    async def open(self) -> Hello:
        """Load the model and start the kernels, unless this machine is unfit; again: the same answer."""
        if self._hello is None:
            self._hello = asyncio.ensure_future(self._open())
        return await asyncio.shield(self._hello)

    async def serve(self, task: Task[Any]) -> AsyncGenerator[Batch, None]:
        """Work on a task and say what happens, a few times a second; the last batch has its result."""
        hello = await self.open()  # Ray may have restarted an actor that was idle, unasked
        if self._services is None:
            raise ActorLost(hello.refusal)
        async with self._outbox(self._services, task) as outbox:
            services = replace(
                self._services,
                record=outbox.record,
                on_sampled=outbox.sampled,
                started_at=outbox.started_at,
                stopping=self._stopping,
            )
            work = asyncio.ensure_future(task.work(services))
            try:
                while not work.done():
                    await asyncio.wait({work}, timeout=BATCH_S)
                    if not work.done() and outbox.filled:
                        yield outbox.take()
                yield outbox.take(work.result())
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def stop(self) -> None:
        """Have every task vote on what is there, as after a first Ctrl-C."""
        self._stopping.set()

    async def aclose(self) -> None:
        """Close kernels and engine."""
        await self._stack.aclose()

    async def _open(self) -> Hello:
        name, pid = socket.gethostname(), os.getpid()
        hide_leftovers()
        refusal = why_unfit(self._config, self._expected)
        if refusal is not None:
            return Hello(name, pid, refusal)
        opening = (self._build or _real_services())(
            self._config,
            record=self._record_for_all,
            started_at=MonotonicClock().now(),
            stopping=self._stopping,
            say=self._said.append,
        )
        try:
            services = self._services = await self._stack.enter_async_context(opening)
        except Exception as error:  # the boundary: this machine is not used, others are
            return Hello(name, pid, str(error) if isinstance(error, UserError) else named(error))
        return Hello(
            name,
            pid,
            engine=asdict(services.engine.capabilities),
            isolation=services.sandboxes.isolation,
            said=tuple(self._said),
        )

    def _record_for_all(self, event: Event) -> None:
        """What the engine lost is no task's own: the first one under way tells it."""
        for outbox in self._outboxes[:1]:
            outbox.record(event.model_copy(update={"t": outbox.elapsed()}))

    @asynccontextmanager
    async def _outbox(self, services: Services, task: Task[Any]) -> AsyncIterator[_Outbox]:
        outbox = _Outbox(services.clock.now() - task.elapsed_s, services)
        self._outboxes.append(outbox)
        try:
            yield outbox
        finally:
            self._outboxes.remove(outbox)


def _real_services() -> Build:
    from solver.build import services  # imports the engine, and with it torch

    return services


class _Outbox:
    """What is to be sent of one task. `started_at` is when the run began, on this machine's clock."""

    def __init__(self, started_at: float, services: Services) -> None:
        self.started_at = started_at
        self._clock = services.clock
        self._lines: list[bytes] = []
        self._sampled = 0

    @property
    def filled(self) -> bool:
        """Whether there is anything to send."""
        return bool(self._lines or self._sampled)

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock.now() - self.started_at

    def record(self, event: Event) -> None:
        self._lines.append(journal_line(event))

    def sampled(self, num_tokens: int) -> None:
        self._sampled += num_tokens

    def take(self, result: object = None) -> Batch:
        """All of it."""
        batch = Batch(b"".join(self._lines), self._sampled, result)
        self._lines, self._sampled = [], 0
        return batch
