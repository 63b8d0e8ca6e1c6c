"""What is sent, and how what comes back is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from solver.engines.vllm.answers import (
    EventSplitter,
    Piece,
    Usage,
    read_capacity,
    read_event,
    refusal,
)
from solver.engines.vllm.bodies import draw_seed, sampling_body
from solver.engines.vllm.client import Client
from solver.engines.vllm.hosts import ServerLost
from solver.errors import EngineError, ScorerError
from solver.types import FinishReason, SamplingParams
from tests.engines.vllm.conftest import greedy, until
from tests.support.fake_vllm import STOP_IDS, VOCAB, FakeServer, continuation, next_id

PROMPT = [3, 1, 4, 1, 5]


def test_every_sampling_parameter_is_sent() -> None:
    params = SamplingParams(9, 5, 0.7, 0.9, 40, 0.05, frozenset({8, 7}), frozenset({6, 5, 1024}))
    body = sampling_body(PROMPT, params, 9, 1024, False)
    assert body["logit_bias"] == {"5": -100, "6": -100}
    assert body["stop_token_ids"] == [7, 8]
    sent = [body[key] for key in ("temperature", "top_p", "top_k", "min_p", "max_tokens")]
    assert sent == [0.7, 0.9, 40, 0.05, 9]
    assert body["seed"] == draw_seed(5, len(PROMPT))
    assert body["ignore_eos"] is True
    assert body["logprobs"] == 0
    assert "seed" not in sampling_body(PROMPT, greedy(9), 9, 1024, False)


def test_draw_seeds_differ_by_seed_and_place() -> None:
    seeds = {draw_seed(seed, place) for seed in range(20) for place in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert draw_seed(2**64 + 3, 1) != draw_seed(3, 1)


async def test_a_resumed_request_draws_anew(rig: Callable[..., Any]) -> None:
    made = await rig()
    params = SamplingParams(6, 42)
    one = await made.say("a", PROMPT, params)
    same = await made.say("b", PROMPT, params)
    assert one.ids == same.ids
    rest = await made.say("a", PROMPT + one.ids, params)
    seed = draw_seed(42, len(PROMPT) + 6)
    assert rest.ids[0] == next_id(PROMPT + one.ids, seed)


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_events_are_cut_wherever_the_bytes_are(end: str, step: int) -> None:
    events: list[Any] = [{"a": 1}, {"b": "ü\n\n"}, {"c": []}]
    lines = [": ping", *(f"data: {json.dumps(event)}" for event in events), "data: [DONE]"]
    data = "".join(line + end for line in lines).encode()
    splitter, found = EventSplitter(), []
    for place in range(0, len(data), step):
        found += splitter.feed(data[place : place + step])
    assert found == events
    assert splitter.done


def event(**changes: Any) -> dict[str, Any]:
    said = {"tokens": ["token_id:5"], "token_logprobs": [-0.5], "top_logprobs": [{}]}
    return {"choices": [{"logprobs": said | changes, "finish_reason": None}]}


def test_an_event_may_bring_several_ids() -> None:
    read = read_event(event(tokens=["token_id:5", "token_id:6"], token_logprobs=[-1, -2]), False)
    assert read == Piece((5, 6), (-1, -2), None)


def test_candidates_are_the_best_twenty_without_the_sampled_one() -> None:
    best = {f"token_id:{n}": math.log((21 - n) / 500) for n in range(1, 21)}
    top = {"token_id:99": -30.0, **best}
    read = read_event(event(top_logprobs=[top]), True)
    assert isinstance(read, Piece)
    shares = [(21 - n) / 210 for n in range(1, 21)]
    assert read.confidences == pytest.approx([-sum(best.values()) / 20])
    assert read.entropies == pytest.approx([-sum(p * math.log(p) for p in shares)])


@pytest.mark.parametrize(
    "strange",
    [
        [],
        3,
        {"choices": 5},
        {"choices": [{}]},
        event(tokens=["five"]),
        event(tokens=["token_id:5", "token_id:6"]),
        event(token_logprobs=[None]),
        {"choices": [], "usage": None},
        {"error": "trouble"},
        {"error": {"message": "m", "code": 500}},
    ],
)
def test_what_is_no_event_means_a_lost_server(strange: Any) -> None:
    with pytest.raises(ServerLost):
        read_event(strange, True)


def test_usage_without_details_was_not_cached() -> None:
    assert read_event({"choices": [], "usage": {"prompt_tokens": 7}}, False) == Usage(7, 0)


def test_which_refusals_are_final() -> None:
    said = json.dumps({"error": {"message": "too long"}})
    assert str(refusal(400, said)) == "the server refused the request (400): too long"
    for status in (408, 429, 500, 502, 503):
        assert isinstance(refusal(status, "<html>"), ServerLost)
    for status in (301, 400, 401, 404, 422):
        assert not isinstance(refusal(status, "<html>"), ServerLost)


def test_capacity_adds_up_over_engines() -> None:
    line = 'vllm:cache_config_info{{block_size="32",engine="{0}",{1}num_gpu_blocks="10"}} 1.0'
    known = 'kv_cache_size_tokens="300",'
    assert read_capacity("\n".join([line.format(0, known), line.format(1, known)])) == 600
    assert read_capacity(line.format(0, "")) == 320
    assert read_capacity(line.format(0, "").replace('"10"', '"None"')) is None
    assert read_capacity("# nothing") is None


async def test_candidates_reach_the_chunks(rig: Callable[..., Any]) -> None:
    made = await rig(candidates=True)
    said = await made.say("a", PROMPT, greedy(6))
    assert [len(c.confidences) for c in said.chunks] == [1] * 6
    assert [len(c.entropies) for c in said.chunks] == [1] * 6
    made = await rig()
    said = await made.say("a", PROMPT, greedy(6))
    assert {c.confidences + c.entropies for c in said.chunks} == {()}


async def test_a_server_without_details_says_nothing_of_its_cache(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(cached_details=False))
    for _ in range(2):
        assert (await made.say("a", PROMPT, greedy(6))).counts == (0, 5)


async def test_a_server_without_the_plugin_is_told(rig: Callable[..., Any]) -> None:
    made = await rig()
    made.engine._stop_ids = (1, 2)
    with pytest.raises(ScorerError, match="plugin"):
        await made.engine.stop_logits([("a", PROMPT)])
    made.engine._stop_ids = None
    with pytest.raises(EngineError, match="without an adapter"):
        await made.engine.stop_logits([("a", PROMPT)])


async def test_prefixes_that_do_not_fit_are_refused(rig: Callable[..., Any]) -> None:
    made = await rig(context_length=20)
    assert len(await made.engine.stop_logits([("a", [5] * (19 - len(STOP_IDS)))])) == 1
    with pytest.raises(EngineError, match="do not fit"):
        await made.engine.stop_logits([("a", [5] * (20 - len(STOP_IDS)))])
    assert await made.engine.stop_logits([]) == []


async def test_banned_and_stop_ids(rig: Callable[..., Any]) -> None:
    made = await rig()
    stop = continuation(PROMPT, 5)[4]
    params = greedy(50, stop_token_ids=frozenset({stop}), banned_token_ids=frozenset({2, VOCAB}))
    said = await made.say("a", PROMPT, params)
    assert (said.ids[-1], said.chunks[-1].finish_reason) == (stop, FinishReason.STOP)
    assert made.server.bodies[0]["logit_bias"] == {"2": -100}


async def test_closing_the_generator_closes_its_connection(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(delay_s=0.001))
    streams = [made.engine.generate(str(n), PROMPT, greedy(3000)) for n in range(24)]
    for stream in streams:
        await anext(stream)
    for stream in streams[8:]:
        await stream.aclose()
    await until(lambda: made.server.open_connections <= 8)
    assert made.server.aborted == 16
    assert made.server.in_flight < 8 * 3000
    for stream in streams[:8]:
        await anext(stream)
        await stream.aclose()


async def test_no_connection_is_used_twice(rig: Callable[..., Any]) -> None:
    made = await rig()
    before = made.server.connections
    for _ in range(5):
        await made.say("a", PROMPT, greedy(2))
    assert made.server.connections == before + 5


async def test_the_client_says_what_it_finds() -> None:
    server = FakeServer(capacity=777)
    await server.start()
    client, other = Client(server.url), Client(server.url, "other")
    try:
        assert await client.healthy(1)
        assert await client.answers(1)
        assert (await client.model_info()).name == "fake"
        assert await client.capacity_tokens() == 777
        server.capacity = None
        assert await client.capacity_tokens() is None
        with pytest.raises(EngineError, match="does not serve other: it serves fake"):
            await other.model_info()
        server.cards = ["fake"]
        with pytest.raises(EngineError, match="does not say what it serves"):
            await client.model_info()
        server.thawed.clear()
        assert not await client.healthy(0.05)
        assert not await client.answers(0.05)
        await server.crash()
        assert not await client.healthy(1)
        with pytest.raises(ServerLost, match="cannot connect"):
            await client.capacity_tokens()
    finally:
        await client.aclose()
        await client.aclose()
        await other.aclose()
        await server.crash()
