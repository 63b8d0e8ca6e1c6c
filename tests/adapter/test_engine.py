"""The gate under the in-process engine, which packs requests and computes attention of its own."""

from __future__ import annotations

import copy

import pytest
import torch

from solver.adapter.gate import StopGate
from solver.adapter.score import score_prefixes
from solver.engines.transformers import TransformersEngine
from solver.types import Chunk, SamplingParams
from tests.support.tiny_models import STOP_IDS, loud_adapter, prefixes_of, tiny_model

PARAMS = SamplingParams(max_tokens=6, seed=3, banned_token_ids=frozenset(STOP_IDS))


async def sampled(engine: TransformersEngine, name: str, ids: list[int]) -> list[Chunk]:
    return [chunk async for chunk in engine.generate(name, ids, PARAMS)]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
async def test_probed_states_give_the_reference_scores(architecture: str) -> None:
    model = copy.deepcopy(tiny_model(architecture))  # an engine takes the model's attention over
    prefixes = prefixes_of(5, 9, 7)
    with StopGate.attach(model, loud_adapter(model)) as gate:
        expected = score_prefixes(model, gate, prefixes)
        async with TransformersEngine(model, max_cached_tokens=512) as engine:
            for index, prefix in enumerate(prefixes):
                await sampled(engine, str(index), prefix)
            asked = [(str(index), prefix) for index, prefix in enumerate(prefixes)]
            states = await engine.probe(asked, STOP_IDS)
            scores = gate.adapter.head(states).detach()
    assert torch.allclose(scores, expected, atol=1e-5, rtol=0)


async def test_scoring_then_generating_equals_generating() -> None:
    model = copy.deepcopy(tiny_model("llama"))
    [prefix] = prefixes_of(8)

    async def run(engine: TransformersEngine, *, score: bool) -> list[Chunk]:
        first = await sampled(engine, "a", prefix)
        ids = [*prefix, *[token for chunk in first for token in chunk.token_ids]]
        if score:
            await engine.probe([("a", ids)], STOP_IDS)
        return [*first, *await sampled(engine, "a", ids)]

    async with TransformersEngine(model, max_cached_tokens=512) as engine:
        plain = await run(engine, score=False)
    with StopGate.attach(model, loud_adapter(model)):
        async with TransformersEngine(model, max_cached_tokens=512) as engine:
            assert await run(engine, score=True) == plain
