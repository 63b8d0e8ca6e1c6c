"""The engine on a real server with the shipped adapter."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import torch

from solver.adapter.folder import read_spec
from solver.config import ModelConfig, VllmConfig
from solver.embedded.corpus import trajectory
from solver.embedded.tokens import encode, load_tokenizer
from solver.engines.loading import load_model
from solver.engines.vllm.client import Client
from solver.engines.vllm.engine import VllmEngine
from solver.types import Chunk, FinishReason, SamplingParams
from tests.engines.helpers import full_logprobs, greedy, params, say
from tests.engines.test_contract import CONTEXT as CONTRACT_CONTEXT
from tests.engines.test_contract import (  # noqa: F401
    test_a_full_context_ends_with_length,
    test_a_pause_changes_nothing,
    test_a_stop_id_ends_the_request_and_is_its_last_id,
    test_closing_the_generator_ends_the_request,
    test_many_requests_at_once,
    test_max_tokens_below_one_are_refused,
    test_max_tokens_end_with_length,
    test_one_open_request_a_trajectory,
    test_prompt_logprobs,
)
from tests.vllm.conftest import ADAPTER, WEIGHTS, Server

pytestmark = pytest.mark.timeout(600)  # the first test of a session waits for the server's start

VOCAB, CONTEXT, BLOCK, EOS = 1024, 512, 32, 3


class Running:
    """A host that is just there."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def start(self) -> None:
        raise AssertionError("it runs already")

    async def recover(self) -> None:
        raise AssertionError("the server was lost")

    def reset_failures(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


@pytest.fixture
async def opened(server: Server) -> AsyncIterator[Callable[..., Any]]:
    """Opens engines on the server, and closes them at the end of the test."""
    engines: list[VllmEngine] = []

    async def open_engine(context: int = CONTEXT, candidates: bool = False) -> VllmEngine:
        engine = await VllmEngine.open(
            [Running(server.url)],
            model_name="embedded",
            context_length=context,
            vocab_size=VOCAB,
            dtype="float32",
            config=VllmConfig(),
            candidates=candidates,
            stop_token_ids=read_spec(ADAPTER).stop_token_ids,
            on_incident=pytest.fail,
        )
        engines.append(engine)
        return engine

    yield open_engine
    for engine in engines:
        assert engine.stats.retries == 0
        await engine.aclose()


@pytest.fixture
async def engine(opened: Callable[..., Any]) -> Any:
    """What the contract is tried on."""
    return await opened(context=CONTRACT_CONTEXT)


@pytest.fixture(scope="session")
def model() -> Any:
    """The same weights in this process, as the reference."""
    return load_model(ModelConfig(path=str(WEIGHTS), device="cpu", dtype="float32"))


def prompts(count: int, length: int = 40, seed: int = 11) -> list[list[int]]:
    """Beginnings of the corpus, all different; seeds keep tests out of each other's cache."""
    tokenizer = load_tokenizer(WEIGHTS)
    texts = [encode(tokenizer, trajectory(index, seed=seed)).ids for index in range(count)]
    return [
        [*random.Random(f"{seed} {n}").choices(range(20, VOCAB), k=8), *ids][:length]
        for n, ids in enumerate(texts)
    ]


async def gauges(server: Server) -> dict[str, float]:
    client = Client(server.url)
    try:
        text = await client._text("GET", "/metrics")
    finally:
        await client.aclose()
    found = re.findall(r"^vllm:(num_requests_running|kv_cache_usage_perc)\{.*\} (\S+)$", text, re.M)
    return {name: float(value) for name, value in found}


async def test_cancelling_a_long_request_ends_it(opened: Callable[..., Any]) -> None:
    engine = await opened()
    started = asyncio.Event()

    async def consume() -> None:
        async for _ in engine.generate("a", prompts(1, seed=8)[0], greedy(450)):
            started.set()

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len((await say(engine, "a", prompts(1, seed=8)[0], greedy(3))).ids) == 3


async def test_aclose_aborts_long_requests(opened: Callable[..., Any]) -> None:
    engine = await opened()
    streams = [
        engine.generate(str(n), ids, greedy(450)) for n, ids in enumerate(prompts(3, seed=9))
    ]
    await asyncio.gather(*(anext(stream) for stream in streams))
    await engine.aclose()
    for stream in streams:
        *_, last = [chunk async for chunk in stream]
        assert last == Chunk((), (), FinishReason.ABORT)


async def test_resume_and_scores_are_cache_hits(opened: Callable[..., Any]) -> None:
    engine = await opened()
    starts = prompts(8, seed=1)
    first = await asyncio.gather(
        *(say(engine, str(n), p, greedy(150)) for n, p in enumerate(starts))
    )
    assert all(said.counts[0] + said.counts[1] == 40 for said in first)
    prefixes = [p + said.ids for p, said in zip(starts, first, strict=True)]
    logits = await engine.stop_logits([(str(n), ids) for n, ids in enumerate(prefixes)])
    assert len({round(logit, 3) for logit in logits}) > 4
    stop_ids = len(read_spec(ADAPTER).stop_token_ids)
    assert engine.stats.scored == 8 * (190 + stop_ids)
    assert engine.stats.scored_cached >= 8 * (190 - 2 * BLOCK)
    rest = await asyncio.gather(
        *(say(engine, str(n), p, greedy(20)) for n, p in enumerate(prefixes))
    )
    for said in rest:
        assert said.counts[0] >= 190 - 2 * BLOCK
        assert sum(said.counts) == 190


async def test_scores_alone_and_together_are_the_same(opened: Callable[..., Any]) -> None:
    engine = await opened()
    prefixes = [(str(n), ids) for n, ids in enumerate(prompts(6, seed=2))]
    together = await engine.stop_logits(prefixes)
    alone = [(await engine.stop_logits([prefix]))[0] for prefix in prefixes]
    assert together == pytest.approx(alone, abs=1e-4)


async def test_closing_16_of_24_frees_their_blocks_while_8_go_on(
    opened: Callable[..., Any], server: Server
) -> None:
    """Prompts of 400 ids hold 13 blocks, whole contexts of 8 streams fewer than those of 24 prompts.

    What the server says of itself lags behind, so a look may come too late: then there is another.
    """
    engine = await opened()
    for attempt in range(8):
        prefixes = [
            random.Random(f"{attempt} {n}").choices(range(20, VOCAB), k=400) for n in range(24)
        ]
        streams = [engine.generate(str(n), ids, params(100, n)) for n, ids in enumerate(prefixes)]
        first = await asyncio.gather(*(anext(stream) for stream in streams))
        before = await gauges(server)
        for stream in streams[8:]:
            await stream.aclose()
        after = before
        while after["num_requests_running"] > 8:
            after = await gauges(server)
        rest = await asyncio.gather(*(length(stream) for stream in streams[:8]))
        lengths = [len(chunk.token_ids) + n for chunk, n in zip(first, rest, strict=False)]
        assert lengths == [100] * 8, "the others notice nothing"
        seen = before["num_requests_running"], after["num_requests_running"]
        if seen == (24, 8) and after["kv_cache_usage_perc"] < before["kv_cache_usage_perc"] / 2:
            return
    pytest.fail(f"their blocks were never seen to be freed: {before}, {after}")


async def length(stream: Any) -> int:
    return sum([len(chunk.token_ids) async for chunk in stream])


async def test_draws_belong_to_seed_and_beginning(opened: Callable[..., Any]) -> None:
    engine = await opened()
    [ids] = prompts(1, seed=4)
    one, same, other = await asyncio.gather(
        *(say(engine, name, ids, params(60, seed)) for name, seed in [("a", 1), ("b", 1), ("c", 2)])
    )
    assert one.ids == same.ids
    assert one.logprobs == pytest.approx(same.logprobs, abs=1e-4)
    assert one.ids != other.ids
    again = [await say(engine, "a", ids + one.ids, params(40, 1)) for _ in range(2)]
    assert again[0].ids == again[1].ids


async def test_only_the_stop_ids_that_were_asked_for_stop(opened: Callable[..., Any]) -> None:
    engine = await opened()
    [ids] = prompts(1, seed=5)
    free = await say(engine, "a", ids, greedy(400))
    assert len(free.ids) == 400
    assert EOS in free.ids[:-1]
    until = await say(engine, "b", ids, greedy(400, stop_token_ids=frozenset({EOS})))
    assert until.ids == free.ids[: free.ids.index(EOS) + 1]
    assert until.reason is FinishReason.STOP


async def test_banned_ids_are_not_sampled(opened: Callable[..., Any]) -> None:
    engine = await opened()
    [ids] = prompts(1, seed=6)
    free = await say(engine, "a", ids, params(60, 1))
    banned = frozenset(free.ids) | {VOCAB + 5}
    said = await say(engine, "b", ids, params(60, 1, banned_token_ids=banned))
    assert not banned & set(said.ids)


async def test_numbers_are_of_the_raw_distribution(opened: Callable[..., Any], model: Any) -> None:
    engine = await opened(candidates=True)
    [ids] = prompts(1, seed=7)
    how = SamplingParams(60, 3, 0.7, 0.9, 30, 0.01, banned_token_ids=frozenset({5, 6, 7}))
    said = await say(engine, "a", ids, how)
    assert said.logprobs == pytest.approx(full_logprobs(model, ids + said.ids, 40), abs=1e-3)
    with torch.no_grad():
        logits = model(torch.tensor([ids + said.ids]), use_cache=False).logits[0, 39:-1].float()
    best = logits.log_softmax(-1).topk(20).values
    confidences = [c for chunk in said.chunks for c in chunk.confidences]
    entropies = [e for chunk in said.chunks for e in chunk.entropies]
    assert confidences == pytest.approx((-best.mean(-1)).tolist(), abs=1e-3)
    expected = torch.special.entr(best.softmax(-1)).sum(-1).tolist()
    assert entropies == pytest.approx(expected, abs=1e-3)


async def test_prompt_logprobs_are_the_models(opened: Callable[..., Any], model: Any) -> None:
    engine = await opened()
    [ids] = prompts(1, length=100, seed=8)
    assert await engine.prompt_logprobs(ids) == pytest.approx(
        full_logprobs(model, ids, 1), abs=1e-3
    )
    full = (prompts(1, length=100, seed=9)[0] * 6)[: CONTEXT - 1]
    assert len(await engine.prompt_logprobs(full)) == CONTEXT - 2
