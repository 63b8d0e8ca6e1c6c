from __future__ import annotations

import asyncio

import pytest

from solver.engines.scripted import Fault, ScriptedEngine
from solver.errors import EngineError
from solver.types import FinishReason
from tests.engines.helpers import greedy, say
from tests.support import run_virtual


async def test_a_mapping_goes_on_where_the_last_request_ended() -> None:
    engine = ScriptedEngine({"a": [5, 6, 7, 8]})
    assert (await say(engine, "a", [1], greedy(2))).ids == [5, 6]
    assert (await say(engine, "a", [1, 5, 6, 2], greedy(2))).ids == [7, 8]
    await engine.release("a")
    assert (await say(engine, "a", [1], greedy(1))).ids == [5]
    assert engine.released == ["a"]
    assert engine.stats.decoded == 5


async def test_text_and_logprobs() -> None:
    engine = ScriptedEngine({"a": "hi"}, encode=lambda text: text.encode(), logprobs={"a": -0.25})
    said = await say(engine, "a", [1], greedy(2))
    assert (said.ids, said.logprobs) == ([104, 105], [-0.25, -0.25])
    with pytest.raises(EngineError, match="encode"):
        await say(ScriptedEngine({"a": "hi"}), "a", [1], greedy(2))


async def test_a_script_that_runs_out_is_an_error() -> None:
    with pytest.raises(EngineError, match="no more ids"):
        await say(ScriptedEngine({"a": [5]}), "a", [1], greedy(2))


async def test_a_fault_strikes_after_its_ids() -> None:
    faults = {"a": Fault(after=2), "b": Fault(error=ValueError("mine"))}
    engine = ScriptedEngine({"a": [5, 6, 7], "b": [5], "c": [5]}, faults=faults)
    seen = []
    with pytest.raises(EngineError, match="fault of a"):
        async for chunk in engine.generate("a", [1], greedy(3)):
            seen += chunk.token_ids
    assert seen == [5, 6]
    with pytest.raises(ValueError, match="mine"):
        await say(engine, "b", [1], greedy(1))
    assert (await say(engine, "c", [1], greedy(1))).ids == [5]
    assert not engine.open_requests


def test_delays_and_hangs_pass_on_the_loops_clock() -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(
            {"a": [5] * 100, "b": [5]}, delay_s=10, faults={"b": Fault(hang=True)}
        )
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert len((await say(engine, "a", [1], greedy(100))).ids) == 100
        assert loop.time() - start == pytest.approx(1000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await say(engine, "b", [1], greedy(1))
        hanging = asyncio.create_task(say(engine, "b", [1], greedy(1)))
        await asyncio.sleep(5)
        await engine.aclose()
        assert (await hanging).reason is FinishReason.ABORT

    run_virtual(scenario())
