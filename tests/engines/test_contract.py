"""What every engine promises, on the fake and on the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from solver.engines.scripted import ScriptedEngine
from solver.engines.transformers import TransformersEngine
from solver.errors import EngineError
from solver.types import Chunk, FinishReason, TokenIds
from tests.engines.helpers import VOCAB, greedy, params, prompt, say

CONTEXT = 96


def endless(_: str, ids: TokenIds) -> list[int]:
    """A script that depends on nothing but the ids, as a greedy model does."""
    said = list(ids)
    while len(said) < len(ids) + CONTEXT:
        said.append((said[-1] * 5 + len(said)) % VOCAB)
    return said[len(ids) :]


@pytest.fixture(params=["scripted", "transformers"])
async def engine(request: pytest.FixtureRequest, llama: Any) -> AsyncIterator[Any]:
    if request.param == "scripted":
        made: Any = ScriptedEngine(endless, context_length=CONTEXT, vocab_size=VOCAB)
    else:
        made = TransformersEngine(llama, context_length=CONTEXT)
    async with made:
        yield made


async def test_max_tokens_end_with_length(engine: Any) -> None:
    said = await say(engine, "a", prompt(9), greedy(12))
    assert len(said.ids) == len(said.logprobs) == 12
    assert all(logprob <= 0 for logprob in said.logprobs)
    assert [chunk.finish_reason for chunk in said.chunks[:-1]] == [None] * 11
    assert said.reason is FinishReason.LENGTH


async def test_the_first_chunk_alone_tells_what_was_cached(engine: Any) -> None:
    said = await say(engine, "a", prompt(9), greedy(4))
    assert said.counts == (0, 9)
    assert all((c.reused_tokens, c.encoded_tokens) == (0, 0) for c in said.chunks[1:])


async def test_a_stop_id_ends_the_request_and_is_its_last_id(engine: Any) -> None:
    free = await say(engine, "a", prompt(9), greedy(30))
    later = free.ids[-1]
    for stop in free.ids[2:8:2]:  # any of several
        ends = frozenset({stop, later})
        said = await say(engine, f"{stop}", prompt(9), greedy(30, stop_token_ids=ends))
        first = min(free.ids.index(token) for token in ends)
        assert said.ids == free.ids[: first + 1]
        assert said.reason is FinishReason.STOP


async def test_a_full_context_ends_with_length(engine: Any) -> None:
    said = await say(engine, "a", prompt(90), greedy(50))
    assert (len(said.ids), said.reason) == (CONTEXT - 90, FinishReason.LENGTH)
    for length in (CONTEXT, CONTEXT + 1):
        full = await say(engine, "b", prompt(length), greedy(50))
        assert full.chunks == [Chunk((), (), FinishReason.LENGTH)]


@pytest.mark.parametrize(
    ("ids", "why"), [([], "no token ids"), ([-1], "from 0 to"), ([3, VOCAB], f"0 to {VOCAB - 1}")]
)
async def test_unusable_ids_are_refused_at_once(engine: Any, ids: list[int], why: str) -> None:
    with pytest.raises(EngineError, match=why):
        engine.generate("a", ids, greedy(3))


async def test_max_tokens_below_one_are_refused(engine: Any) -> None:
    with pytest.raises(EngineError, match="max_tokens"):
        engine.generate("a", [1], greedy(0))


async def test_a_pause_is_resumed_from_the_cache(engine: Any) -> None:
    first = await say(engine, "a", prompt(9), greedy(6))
    ids = prompt(9) + first.ids + [7, 8, 9]
    second = await say(engine, "a", ids, greedy(6))
    assert second.counts == (14, 4)  # the last sampled id was never fed, and three are new


async def test_a_pause_changes_nothing(engine: Any) -> None:
    whole = await say(engine, "a", prompt(9), greedy(12))
    first = await say(engine, "b", prompt(9), greedy(5))
    rest = await say(engine, "b", prompt(9) + first.ids, greedy(7))
    assert first.ids + rest.ids == whole.ids


async def test_ids_that_part_from_the_cache_reuse_the_common_prefix(engine: Any) -> None:
    await say(engine, "a", prompt(9), greedy(3))
    other = [*prompt(9)[:4], (prompt(9)[4] + 1) % VOCAB, 5, 6]
    said = await say(engine, "a", other, greedy(3))
    assert said.counts == (4, 3)


async def test_release_forgets(engine: Any) -> None:
    await engine.release("never seen")
    await say(engine, "a", prompt(9), greedy(3))
    await engine.release("a")
    said = await say(engine, "a", prompt(9), greedy(3))
    assert said.counts == (0, 9)


async def test_closing_the_generator_ends_the_request(engine: Any) -> None:
    cut = await say(engine, "a", prompt(9), greedy(50), stop_after=4)
    assert len(cut.ids) == 4
    whole = await say(engine, "b", prompt(9), greedy(10))
    rest = await say(engine, "a", prompt(9) + cut.ids, greedy(6))
    assert cut.ids + rest.ids == whole.ids


async def test_cancelling_the_consumer_ends_the_request(engine: Any) -> None:
    started = asyncio.Event()

    async def consume() -> None:
        async for _ in engine.generate("a", prompt(9), greedy(80)):
            started.set()

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len((await say(engine, "a", prompt(9), greedy(3))).ids) == 3


async def test_one_open_request_a_trajectory(engine: Any) -> None:
    stream = engine.generate("a", prompt(9), greedy(50))
    await anext(stream)
    with pytest.raises(EngineError, match="open request"):
        await say(engine, "a", prompt(9), greedy(3))
    await stream.aclose()


async def test_aclose_aborts_what_is_open(engine: Any) -> None:
    streams = [engine.generate(str(n), prompt(5, n), greedy(91)) for n in range(3)]
    for stream in streams:
        await anext(stream)
    await engine.aclose()
    for stream in streams:
        chunks = [chunk async for chunk in stream]
        assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1] == Chunk((), (), FinishReason.ABORT)
    await engine.aclose()
    with pytest.raises(EngineError, match="closed"):
        await say(engine, "a", prompt(9), greedy(3))


async def test_many_requests_at_once(engine: Any) -> None:
    alone = [await say(engine, f"alone {n}", prompt(5 + n, n), params(9, n)) for n in range(8)]
    together = await asyncio.gather(
        *(say(engine, f"together {n}", prompt(5 + n, n), params(9, n)) for n in range(8))
    )
    assert [said.ids for said in together] == [said.ids for said in alone]


async def test_prompt_logprobs(engine: Any) -> None:
    assert await engine.prompt_logprobs([4]) == []
    logprobs = await engine.prompt_logprobs(prompt(40))
    assert len(logprobs) == 39
    assert all(logprob <= 0 for logprob in logprobs)
    for ids, why in ([], "no token ids"), ([-1], "from 0 to"):
        with pytest.raises(EngineError, match=why):
            await engine.prompt_logprobs(ids)


async def test_capabilities(engine: Any) -> None:
    said = engine.capabilities
    assert (said.context_length, said.vocab_size) == (CONTEXT, VOCAB)
