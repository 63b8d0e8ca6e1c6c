"""The same promises on a GPU, in both precisions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from solver.engines.transformers import TransformersEngine
from tests.engines.helpers import (
    KINDS,
    assert_same,
    full_logprobs,
    generated,
    params,
    prompt,
    random_life,
    say,
    tiny_model,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
Open = Callable[..., TransformersEngine]

# how far apart two computations of one logit or probability may be
NOISE = {torch.float32: 1e-3, torch.bfloat16: 0.3}


@pytest.fixture(params=[(k, d) for k in KINDS for d in NOISE], ids=lambda p: f"{p[0]}-{p[1]}")
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    kind, dtype = request.param
    # wider heads than the CPU's, as the fused kernels have minimum sizes
    made = [tiny_model(kind, hidden_size=128, head_dim=32, initializer_range=0.15) for _ in "ab"]
    return tuple(model.to("cuda", dtype) for model in made)


async def test_greedy_tokens_equal_generate(opened: Open, pair: Any) -> None:
    model, reference = pair
    for segment in await random_life(opened(model), 0, temperature=0.0):
        expected = generated(reference, segment.before, len(segment.said.ids))
        assert_same(
            reference, segment.before, segment.said.ids, expected, segment.how, NOISE[model.dtype]
        )


async def test_logprobs_and_probes_equal_a_full_forward(opened: Open, pair: Any) -> None:
    model, reference = pair
    engine, noise = opened(model), NOISE[model.dtype]
    ids = prompt(40)
    said = await say(engine, "a", ids, params(60, 1, top_p=0.9))
    expected = full_logprobs(reference, ids + said.ids, 40)
    assert said.logprobs == pytest.approx(expected, abs=noise)
    state = (await engine.probe([("a", ids + said.ids)], [5, 6]))[0]
    with torch.no_grad():
        tensor = torch.tensor([[*ids, *said.ids, 5, 6]], device="cuda")
        fresh = reference.model(tensor).last_hidden_state[0, -1].float().cpu()
    assert torch.nn.functional.cosine_similarity(state, fresh, dim=0) > 1 - noise / 10


async def test_company_and_pauses_change_nothing(opened: Open, pair: Any) -> None:
    model, reference = pair
    engine = opened(model)
    wishes = [(prompt(10 + n, n), params(40, n, top_p=0.9, top_k=50)) for n in range(12)]
    alone = [await say(engine, f"alone {n}", *wish) for n, wish in enumerate(wishes)]
    together = await asyncio.gather(
        *(say(engine, f"together {n}", *wish) for n, wish in enumerate(wishes))
    )
    for (ids, how), one, other in zip(wishes, alone, together, strict=True):
        assert_same(reference, ids, one.ids, other.ids, how, NOISE[model.dtype])
    ids, how = wishes[0]
    half = await say(engine, "half", ids, params(20, 0, top_p=0.9, top_k=50))
    rest = await say(engine, "half", ids + half.ids, params(20, 0, top_p=0.9, top_k=50))
    assert_same(reference, ids, alone[0].ids, half.ids + rest.ids, how, NOISE[model.dtype])
    assert engine.stats.re_encoded == 0


async def test_memory_comes_back() -> None:
    model = tiny_model("llama").to("cuda")
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    async with TransformersEngine(model) as engine:
        await asyncio.gather(
            *(say(engine, str(n), prompt(20, n), params(40, n)) for n in range(20))
        )
        assert torch.cuda.memory_allocated() > before
    assert torch.cuda.memory_allocated() - before < 20e6  # a library's workspace may stay
