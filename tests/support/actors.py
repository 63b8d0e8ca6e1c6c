"""Actors in this process, on scripts, that are lost when a test wants it; time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from solver.config import SolverConfig
from solver.distributed.node import Installation, installation
from solver.distributed.tasks import Batch, Task
from solver.distributed.worker import ActorLost, Hello, Worker
from solver.solving.services import Services
from tests.support.rig import Rig


@dataclass
class ScriptedActor:
    """A worker with the engine of `rig`. It is lost for the n-th time after `lost_after[n]` batches."""

    rig: Rig
    lost_after: Sequence[int] = ()
    starts: int = 1_000_000  # how often it can be started
    slow_s: float = 0.0  # what a start takes
    expected: Installation | None = None
    served: list[str] = field(default_factory=list)
    opened: int = 0
    ended: bool = False
    _batches: int = 0
    _losses: int = 0
    _worker: Worker | None = None

    async def open(self) -> Hello:
        await asyncio.sleep(self.slow_s)
        if self._worker is None:
            if self.opened == self.starts:
                raise ActorLost("it died", for_good=True)
            self.opened += 1
            config = SolverConfig()
            self._worker = Worker(config, self.expected or installation(config), self._services)
        return await self._worker.open()

    @asynccontextmanager
    async def _services(self, config: Any, **handed: Any) -> AsyncIterator[Services]:
        yield replace(self.rig.services(), record=handed["record"], stopping=handed["stopping"])

    async def serve(self, task: Task[Any]) -> AsyncGenerator[Batch, None]:
        assert self._worker is not None
        problem: Any = task
        self.served.append(problem.problem.id)
        async with aclosing(self._worker.serve(task)) as batches:
            async for batch in batches:
                if self._losses < len(self.lost_after) and (
                    self._batches >= self.lost_after[self._losses]
                ):
                    self._batches, self._worker = 0, None
                    self._losses += 1
                    raise ActorLost("its node ended")
                self._batches += 1
                yield batch

    async def stop(self) -> None:
        assert self._worker is not None
        await self._worker.stop()

    async def end(self) -> None:
        self.ended = True
