"""What an actor says of its tasks: times of the run, and what its engine lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from solver.config import SolverConfig
from solver.distributed.node import installation
from solver.distributed.tasks import Batch
from solver.distributed.worker import BATCH_S, ActorLost, Worker
from solver.errors import ModelError
from solver.journal.events import EVENTS, EngineIncident, Event
from solver.solving.services import Services
from tests.support import run_virtual
from tests.support.rig import Rig, says

CONFIG = SolverConfig()


@dataclass
class Build:
    """Opens services on a script; `record` is what the engine tells its incidents to."""

    fails: bool = False
    opened: int = 0
    record: Callable[[Event], None] = print

    @asynccontextmanager
    async def __call__(self, config: Any, **handed: Any) -> AsyncIterator[Services]:
        self.opened += 1
        if self.fails:
            raise ModelError("no such model")
        handed["say"]("8 bits on this CPU")
        self.record = handed["record"]
        yield replace(Rig(says=lambda _: says(7)).services(), record=self.record)


@dataclass
class Chatty:
    """Waits, and samples; then its engine loses something."""

    build: Build
    elapsed_s: float

    async def work(self, services: Services) -> str:
        for _ in range(3):
            services.on_sampled(5)
            await asyncio.sleep(2 * BATCH_S)
        self.build.record(EngineIncident(t=99.0, what="lost"))
        return f"{services.elapsed():.2f}"


def test_times_are_those_of_the_run() -> None:
    build = Build()

    async def work() -> list[Batch]:
        worker = Worker(CONFIG, installation(CONFIG), build)
        hellos = await asyncio.gather(worker.open(), worker.open())
        assert hellos[0] is hellos[1] and build.opened == 1
        assert hellos[0].said == ("8 bits on this CPU",)
        task: Any = Chatty(build, 1_000.0)
        return [batch async for batch in worker.serve(task)]

    batches = run_virtual(work())
    assert sum(batch.sampled for batch in batches) == 15
    assert len(batches) == 4, "nothing is sent where nothing happened"
    assert batches[-1].result == "1001.50"
    incident = EVENTS.validate_json(batches[-1].lines)
    assert isinstance(incident, EngineIncident)
    assert (incident.what, incident.t) == ("lost", pytest.approx(1_001.5))


def test_a_model_that_cannot_be_used_is_a_refusal() -> None:
    async def work() -> str:
        worker = Worker(CONFIG, installation(CONFIG), Build(fails=True))
        return (await worker.open()).refusal

    assert run_virtual(work()) == "no such model"


def test_an_actor_that_was_restarted_while_it_was_idle_opens_when_it_is_asked_to_work() -> None:
    build = Build()
    task: Any = Chatty(build, 1_000.0)

    async def work() -> list[Batch]:
        return [batch async for batch in Worker(CONFIG, installation(CONFIG), build).serve(task)]

    assert run_virtual(work())[-1].result
    assert build.opened == 1


def test_one_that_cannot_be_opened_again_is_lost() -> None:
    async def work() -> None:
        worker = Worker(CONFIG, installation(CONFIG), Build(fails=True))
        async for _ in worker.serve(Chatty(Build(), 0.0)):
            pass

    with pytest.raises(ActorLost, match="no such model"):
        run_virtual(work())


def test_what_a_task_raises_comes_through() -> None:
    class Fails:
        elapsed_s = 0.0

        async def work(self, services: Services) -> None:
            raise ModelError("out of memory")

    async def work() -> None:
        worker = Worker(CONFIG, installation(CONFIG), Build())
        await worker.open()
        async for _ in worker.serve(Fails()):
            pass

    with pytest.raises(ModelError, match="out of memory"):
        run_virtual(work())


def test_a_call_that_is_closed_ends_its_task() -> None:
    ended = []

    class Long:
        elapsed_s = 0.0

        async def work(self, services: Services) -> None:
            try:
                while True:
                    services.on_sampled(1)
                    await asyncio.sleep(1)
            finally:
                ended.append(True)

    async def work() -> None:
        worker = Worker(CONFIG, installation(CONFIG), Build())
        await worker.open()
        stream = worker.serve(Long())
        await anext(stream)
        await stream.aclose()

    run_virtual(work())
    assert ended == [True]
