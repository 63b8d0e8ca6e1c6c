"""What the engine loses and finds again: said before a run, journalled and degrading within it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from solver import build
from solver.engines.scripted import ScriptedEngine
from solver.journal.events import EngineIncident, Event, Solved
from solver.runs.settings import load_config
from solver.solving.session import run_session
from tests.support import run_virtual
from tests.support.rig import Rig, every, problem, says


@pytest.mark.torch
async def test_a_journal_never_begins_with_an_incident(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Callable[[str], None]] = []

    async def opened(*_: object, on_incident: Callable[[str], None], **__: Any) -> ScriptedEngine:
        on_incident("started again with smaller settings")
        told.append(on_incident)
        return ScriptedEngine({})

    monkeypatch.setattr("solver.engines.vllm.open.open_vllm", opened)
    config = load_config(overrides={"model.engine": "vllm", "prune.scorer": "none"})
    recorded: list[Event] = []
    said: list[str] = []
    async with build.services(
        config,
        record=recorded.append,
        started_at=time.monotonic(),
        stopping=asyncio.Event(),
        say=said.append,
    ) as services:
        assert (said, recorded, services.incidents) == (
            ["started again with smaller settings"],
            [],
            [],
        )
        told[0]("server http://127.0.0.1:1 was lost")
        assert isinstance(recorded[0], EngineIncident)
        assert services.incidents == ["server http://127.0.0.1:1 was lost"]


def test_an_incident_degrades_the_problems_under_way_and_no_other() -> None:
    async def main() -> list[Solved]:
        rig = Rig(says={k: v for n in "abc" for k, v in every([says(7, 60)] * 4, n).items()})
        services = rig.services()
        record, done = services.record, 0

        def lose_the_server_after_the_first(event: Event) -> None:
            nonlocal done
            record(event)
            if isinstance(event, Solved):
                done += 1
            elif done == 1 and not services.incidents:
                services.incidents.append("server was lost")

        object.__setattr__(services, "record", lose_the_server_after_the_first)
        return await run_session([problem(name) for name in "abc"], services, solved={})

    first, second, third = run_virtual(main())
    assert (first.degraded, third.degraded) == ([], [])
    assert second.degraded == ["server was lost"]
