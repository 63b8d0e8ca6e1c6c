"""The in-process engine against transformers itself: tokens, log-probabilities, states, seeds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from solver.engines import arena, core
from solver.engines.transformers import TransformersEngine, load
from solver.errors import EngineError
from tests.engines.helpers import (
    VOCAB,
    assert_same,
    full_logprobs,
    generated,
    greedy,
    params,
    prompt,
    random_life,
    say,
    tiny_model,
)

Open = Callable[..., TransformersEngine]
SAMPLINGS: list[dict[str, Any]] = [
    {},
    {"top_p": 0.9},
    {"top_k": 20, "temperature": 0.7},
    {"min_p": 0.05, "temperature": 1.3},
    {"top_k": 50, "top_p": 0.8, "min_p": 0.01, "banned_token_ids": frozenset(range(0, VOCAB, 3))},
]


@pytest.mark.parametrize("seed", [0, 1])
async def test_greedy_tokens_equal_generate(opened: Open, pair: Any, seed: int) -> None:
    model, reference = pair
    segments = await random_life(opened(model), seed, temperature=0.0)
    for segment in segments:
        expected = generated(reference, segment.before, len(segment.said.ids))
        assert_same(reference, segment.before, segment.said.ids, expected, segment.how)


async def test_logprobs_equal_a_full_forward(opened: Open, pair: Any) -> None:
    model, reference = pair
    engine = opened(model)
    for segment in await random_life(engine, 2, top_p=0.9, temperature=0.8):
        before, said = segment.before, segment.said
        expected = full_logprobs(reference, before + said.ids, len(before))
        assert said.logprobs == pytest.approx(expected, abs=1e-4)
        assert sum(said.counts) == len(before)
    ids = prompt(200)
    assert await engine.prompt_logprobs(ids) == pytest.approx(
        full_logprobs(reference, ids, 1), abs=1e-4
    )
    stats = engine.stats
    assert stats.re_encoded == stats.evicted_pauses == stats.running_rows == 0


async def test_pause_and_resume_encode_only_what_is_new(opened: Open, llama: Any) -> None:
    engine = opened(llama)
    ids = prompt(30)
    first = await say(engine, "a", ids, greedy(10))
    ids = ids + first.ids
    second = await say(engine, "a", ids, greedy(10))
    ids = [*ids, *second.ids, 1, 2, 3]
    third = await say(engine, "a", ids, greedy(1))
    assert [first.counts, second.counts, third.counts] == [(0, 30), (39, 1), (49, 4)]
    stats = engine.stats
    assert (stats.prefilled, stats.reused, stats.re_encoded) == (35, 88, 0)
    assert (stats.decoded, stats.paused_rows, stats.paused_tokens) == (21, 1, 53)


async def test_one_prompt_is_encoded_once(opened: Open, llama: Any) -> None:
    engine = opened(llama)
    says = await asyncio.gather(*(say(engine, str(n), prompt(60), params(5, n)) for n in range(9)))
    assert sorted(said.counts for said in says) == [(0, 60), *[(59, 1)] * 8]
    later = await say(engine, "later", [*prompt(40), 1, 2], params(5))  # from a pause
    assert later.counts == (40, 2)


@pytest.mark.parametrize("how", SAMPLINGS)
async def test_company_changes_nothing(
    opened: Open, llama: Any, reference: Any, how: dict[str, Any]
) -> None:
    others = [SAMPLINGS[n % len(SAMPLINGS)] for n in range(12)]
    wishes = [
        (prompt(10 + n, n), params(40, n, **(other if n % 2 else how)))
        for n, other in enumerate(others)
    ]
    engine = opened(llama)
    alone = [await say(engine, f"alone {n}", *wish) for n, wish in enumerate(wishes)]
    together = await asyncio.gather(
        *(say(engine, f"together {n}", *wish) for n, wish in enumerate(wishes))
    )
    for (ids, wish), one, other in zip(wishes, alone, together, strict=True):
        assert_same(reference, ids, one.ids, other.ids, wish)


@pytest.mark.parametrize("how", SAMPLINGS)
async def test_pauses_and_chunks_change_nothing(
    opened: Open, llama: Any, reference: Any, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, ids = opened(llama), prompt(50)
    whole = await say(engine, "whole", ids, params(60, 7, **how))
    monkeypatch.setattr(core, "PREFILL_TOKENS", 7)
    await engine.release("whole")
    said: list[int] = []
    for count in (1, 20, 9, 30):
        said += (await say(engine, "parts", ids + said, params(count, 7, **how))).ids
        if count == 9:
            await engine.release("parts")
    assert_same(reference, ids, whole.ids, said, params(60, 7, **how))


async def test_seeds_differ(opened: Open, llama: Any) -> None:
    engine = opened(llama)
    says = [await say(engine, "a", prompt(9), params(20, seed)) for seed in (0, 1, 2**63, -1)]
    assert len({tuple(said.ids) for said in says}) == 4


async def test_banned_ids_are_never_sampled(opened: Open, llama: Any) -> None:
    engine = opened(llama)
    banned = frozenset(range(150)) | {VOCAB + 7}
    for temperature in (0.0, 1.0, 2.0):
        how = params(100, 3, temperature=temperature, banned_token_ids=banned)
        said = await say(engine, str(temperature), prompt(9), how)
        assert not banned & set(said.ids)
    with pytest.raises(EngineError, match="banned"):
        engine.generate("a", [1], params(3, banned_token_ids=frozenset(range(VOCAB))))


async def test_probe_equals_a_fresh_encoding(opened: Open, pair: Any) -> None:
    model, reference = pair
    engine = opened(model)
    prefixes = []
    for n in range(6):
        ids = prompt(20 + 9 * n, n)
        prefixes.append((str(n), ids + (await say(engine, str(n), ids, params(8, n))).ids))
    prefixes += [("never seen", prompt(70, 99)), ("3", prompt(12, 3))]
    states = await engine.probe(prefixes, [5, 6, 7])
    assert (states.dtype, states.device.type) == (torch.float32, "cpu")
    for (_, ids), state in zip(prefixes, states, strict=True):
        with torch.no_grad():
            fresh = reference.model(torch.tensor([[*ids, 5, 6, 7]])).last_hidden_state[0, -1]
        assert torch.allclose(state, fresh, atol=1e-5), (state - fresh).abs().max()
    assert engine.stats.re_encoded == 0
    assert (await engine.probe([], [5])).shape == (0, 64)
    with pytest.raises(EngineError):
        await engine.probe(prefixes, [VOCAB])
    with pytest.raises(EngineError, match="context"):
        await engine.probe([("a", prompt(255))], [1, 2])


async def test_probe_changes_no_bit(opened: Open, llama: Any) -> None:
    engine = opened(llama)
    halves = []
    for name in ("probed", "left alone"):
        ids = prompt(20)
        first = await say(engine, name, ids, params(8, 1))
        if name == "probed":
            states = await engine.probe([(name, ids + first.ids)], [5, 6, 7])
            assert states.shape == (1, 64)
        second = await say(engine, name, ids + first.ids, params(30, 1))
        await engine.release(name)
        halves.append((first.logprobs, second.logprobs, second.ids, second.counts))
    assert halves[0] == halves[1]


async def test_a_running_row_can_be_probed(opened: Open, llama: Any, reference: Any) -> None:
    engine, ids = opened(llama), prompt(30)
    running = asyncio.create_task(say(engine, "a", ids, greedy(150)))
    state = (await engine.probe([("a", ids)], [5, 6]))[0]
    with torch.no_grad():
        fresh = reference.model(torch.tensor([[*ids, 5, 6]])).last_hidden_state[0, -1]
    assert torch.allclose(state, fresh, atol=1e-5)
    assert (await running).ids == generated(reference, ids, 150)


async def test_a_hook_sees_the_packed_ids(opened: Open, llama: Any) -> None:
    seen = []
    hook = llama.model.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["input_ids"].tolist()), with_kwargs=True
    )
    try:
        await opened(llama).probe([("a", [1, 2]), ("b", [3])], [8, 9])
    finally:
        hook.remove()
    assert seen == [[[1, 2, 8, 9, 3, 8, 9]]]


async def test_a_failed_step_fails_its_requests_and_no_others(
    opened: Open, llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(llama)
    paused = await say(engine, "paused", prompt(9), greedy(5))
    broken = llama.model.layers[1].mlp
    forward = broken.forward
    monkeypatch.setattr(
        broken,
        "forward",
        lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError("no memory\nat all")),
    )
    results = await asyncio.gather(
        *(say(engine, str(n), prompt(9), greedy(5)) for n in range(3)),
        engine.prompt_logprobs(prompt(9)),
        engine.probe([("paused", prompt(9))], [1]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [EngineError] * 5
    assert "OutOfMemoryError: no memory" in str(results[0])
    monkeypatch.setattr(broken, "forward", forward)
    rest = await say(engine, "paused", prompt(9) + paused.ids, greedy(5))
    assert rest.counts == (13, 1)
    assert (await say(engine, "0", prompt(9), greedy(5))).ids == paused.ids


async def test_a_failed_pause_loses_no_request_behind_it(
    opened: Open, llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(llama)
    stream = engine.generate("a", prompt(9), greedy(200))
    await anext(stream)

    def fail(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(arena.Arena, "save", fail)
        await stream.aclose()
        with pytest.raises(EngineError, match="MemoryError"):
            await say(engine, "b", prompt(9), greedy(5))
    assert len((await say(engine, "c", prompt(9), greedy(5))).ids) == 5


async def test_broken_numbers_fail_one_request_and_leave_no_trace(opened: Open, llama: Any) -> None:
    engine, poison = opened(llama), 13
    good = [token for token in prompt(20) if token != poison]
    expected = await say(engine, "before", good, greedy(20, banned_token_ids=frozenset({poison})))

    def break_poison(_: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return output.masked_fill((args[0] == poison)[..., None], float("nan"))

    hook = llama.model.embed_tokens.register_forward_hook(break_poison)
    try:
        with pytest.raises(EngineError, match="not finite"):
            await say(engine, "bad", [poison, *prompt(150, 1)], greedy(5))
        await engine.release("before")
        again = await say(engine, "after", good, greedy(20, banned_token_ids=frozenset({poison})))
    finally:
        hook.remove()
    assert again.ids == expected.ids


async def test_closing_gives_the_model_back(llama: Any) -> None:
    async with TransformersEngine(llama) as engine:
        assert llama.config._attn_implementation == "solver_packed"
        await say(engine, "a", prompt(9), greedy(3))
        pending = asyncio.create_task(engine.prompt_logprobs(prompt(200)))
        await asyncio.sleep(0)
        await engine.aclose()
        with pytest.raises(EngineError, match="clos"):
            await pending
    assert llama.config._attn_implementation == "sdpa"
    assert engine.stats.paused_rows == engine.stats.arena_cells == 0
    assert len(generated(llama, prompt(9), 3)) == 3


def test_an_engine_ends_with_its_event_loop(llama: Any) -> None:
    engine = TransformersEngine(llama)
    asyncio.run(anext_and_leave(engine))
    with pytest.raises(EngineError, match="closed"):
        asyncio.run(say(engine, "a", prompt(9), greedy(5)))
    asyncio.run(engine.aclose())
    assert llama.config._attn_implementation == "sdpa"


async def anext_and_leave(engine: TransformersEngine) -> None:
    await anext(engine.generate("a", prompt(9), greedy(200)))


async def test_bfloat16_runs(tmp_path: Any) -> None:
    from solver.config import ModelConfig

    tiny_model("llama").save_pretrained(tmp_path)
    config = ModelConfig(path=str(tmp_path), device="cpu", dtype="bfloat16", threads=1)
    async with load(config) as engine:
        assert (engine.capabilities.dtype, engine.capabilities.device) == ("bfloat16", "cpu")
        says = await asyncio.gather(
            *(say(engine, str(n), prompt(9, n), params(20, n, top_p=0.9)) for n in range(4))
        )
        assert [len(said.ids) for said in says] == [20] * 4
        assert (await engine.probe([("0", prompt(9, 0))], [1])).dtype == torch.float32
