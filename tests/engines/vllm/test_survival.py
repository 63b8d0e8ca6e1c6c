"""What a request lives through: every way in which a server can fail it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from solver.errors import EngineError
from solver.types import Chunk, FinishReason
from tests.engines.vllm.conftest import greedy, until
from tests.support.fake_vllm import (
    CONTEXT,
    FakeServer,
    Fault,
    continuation,
    logprob,
    score,
)

PROMPT = [3, 1, 4, 1, 5]
IN_A_STREAM = ["cut", "half", "end", "done", "garbage", "strange", "error", "abort"]


def check(said: Any, count: int, prompt: list[int] = PROMPT) -> None:
    """Nothing is lost, nothing is repeated, and the numbers still belong to their ids."""
    assert said.ids == continuation(prompt, count)
    places = range(count)
    assert said.logprobs == [logprob(prompt + said.ids[:p], said.ids[p]) for p in places]
    assert [chunk.finish_reason for chunk in said.chunks[:-1]] == [None] * (len(said.chunks) - 1)
    assert said.chunks[-1].finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("kind", [*IN_A_STREAM, "crash", "dead"])
@pytest.mark.parametrize("after", [0, 7])
async def test_a_stream_that_fails_goes_on(rig: Callable[..., Any], kind: str, after: int) -> None:
    made = await rig()
    made.server.faults.append(Fault(kind, after))
    check(await made.say("a", PROMPT, greedy(20)), 20)
    gone = kind in ("crash", "dead")
    assert made.hosts[0].recoveries == gone
    assert len(made.incidents) == 2 * gone
    assert made.engine.stats.retries == 1
    assert made.engine.stats.losses == gone
    assert made.engine.stats.sampled == 20
    repeated = made.server.bodies[1]
    assert repeated["max_tokens"] == 20 - len(repeated["prompt"][len(PROMPT) :])


@pytest.mark.parametrize("after", [0, 7])
async def test_a_silent_server_that_answers_is_waited_for(
    rig: Callable[..., Any], after: int
) -> None:
    made = await rig(silence_s=0.3)
    made.server.faults.append(Fault("hang", after))
    task = asyncio.create_task(made.say("a", PROMPT, greedy(20)))
    await until(lambda: made.server.probes >= 2)
    assert (made.hosts[0].recoveries, len(made.server.bodies)) == (0, 1)
    await made.server.restart()  # nothing else helps here
    check(await task, 20)


async def test_a_server_that_answers_probes_and_admits_nothing_is_lost(
    rig: Callable[..., Any],
) -> None:
    made = await rig(silence_s=0.1)
    made.server.admits = False
    tasks = [asyncio.create_task(made.say(n, PROMPT, greedy(20))) for n in ("a", "b", "c")]
    for task in tasks:
        check(await task, 20)
    assert made.hosts[0].recoveries == 1, "a restart helps"
    assert made.server.probes == 3, "one probe a silence, however many requests wait"
    lost, _ = made.incidents
    assert "it answers probes, and no request: silent 3 times in a row" in lost


async def test_a_slow_server_that_gives_a_token_now_and_then_is_waited_for(
    rig: Callable[..., Any],
) -> None:
    made = await rig(FakeServer(delay_s=0.25), silence_s=0.1)
    check(await made.say("a", PROMPT, greedy(8)), 8)
    assert made.server.probes >= 8
    assert made.hosts[0].recoveries == 0


async def test_a_cut_in_the_middle_asks_only_for_the_rest(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(delay_s=0.01))  # slow enough that each id is read before the cut
    made.server.faults.append(Fault("half", 7))
    check(await made.say("a", PROMPT, greedy(20)), 20)
    [_, repeated] = made.server.bodies
    assert repeated["prompt"] == PROMPT + continuation(PROMPT, 7)
    assert repeated["max_tokens"] == 13


async def test_a_frozen_server_is_lost(rig: Callable[..., Any]) -> None:
    made = await rig(silence_s=0.3, probe_s=0.2)
    made.server.faults.append(Fault("freeze", 3))
    check(await made.say("a", PROMPT, greedy(20)), 20)
    assert made.hosts[0].recoveries == 1
    lost, back = made.incidents
    assert made.server.url in lost
    assert "silent for 0.3 s, and no answer to a probe" in lost
    assert "1 request goes on when it is back" in lost
    assert "is back after" in back


async def test_a_server_frozen_before_it_answers_is_lost(rig: Callable[..., Any]) -> None:
    made = await rig(silence_s=0.3, probe_s=0.2)
    made.server.thawed.clear()
    check(await made.say("a", PROMPT, greedy(20)), 20)
    assert made.hosts[0].recoveries == 1


@pytest.mark.parametrize("status", ["500", "503", "429"])
async def test_a_busy_server_is_asked_again(rig: Callable[..., Any], status: str) -> None:
    made = await rig()
    made.server.faults += [Fault(status), Fault(status)]
    check(await made.say("a", PROMPT, greedy(20)), 20)
    assert made.hosts[0].recoveries == 0
    assert made.engine.stats.retries == 2


async def test_a_server_that_refuses_to_connect_is_brought_back(rig: Callable[..., Any]) -> None:
    made = await rig()
    await made.server.crash()
    check(await made.say("a", PROMPT, greedy(20)), 20)
    assert made.hosts[0].recoveries == 1
    assert "cannot connect" in made.incidents[0]


async def test_many_requests_survive_three_crashes(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(delay_s=0.003))
    prompts = [[n, *PROMPT] for n in range(24)]
    jobs = [made.say(str(n), prompt, greedy(120)) for n, prompt in enumerate(prompts)]
    tasks = [asyncio.create_task(job) for job in jobs]
    for crashes in range(3):
        before = made.engine.stats.sampled
        await until(lambda: len(made.incidents) == 2 * crashes)  # noqa: B023
        await until(lambda: made.engine.stats.sampled >= before + 24 * 10)  # noqa: B023
        await made.server.crash()
    for task, prompt in zip(tasks, prompts, strict=True):
        check(await task, 120, prompt)
    assert made.hosts[0].recoveries == 3
    assert len(made.incidents) == 6, "one loss and one return each, however many notice"
    assert "24 requests go on when it is back" in made.incidents[0]


async def test_a_refused_request_is_an_error_at_once(rig: Callable[..., Any]) -> None:
    made = await rig()
    made.server.faults += [Fault("400"), Fault("refusal", 2)]
    for message in ("not now", "bad prompt"):
        with pytest.raises(EngineError, match=message):
            await made.say("a", PROMPT, greedy(20))
    assert made.server.probes == 0


async def test_a_request_that_kills_every_server_is_given_up(rig: Callable[..., Any]) -> None:
    made = await rig(recover_s=0.0)
    made.server.faults += [Fault("crash")] * 20
    with pytest.raises(EngineError, match="given up after 5 failures in a row"):
        await made.say("a", PROMPT, greedy(20))
    assert len(made.server.bodies) == 5
    made.server.faults.clear()
    check(await made.say("b", PROMPT, greedy(20)), 20)


async def test_failures_with_tokens_between_them_are_not_in_a_row(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(delay_s=0.005))
    made.server.faults += [Fault("cut", 2)] * 8
    check(await made.say("a", PROMPT, greedy(20)), 20)


async def test_a_server_given_up_ends_everybody(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(delay_s=0.01), most=0)
    streams = [made.engine.generate(name, PROMPT, greedy(500)) for name in "ab"]
    for stream in streams:
        await anext(stream)
    await made.server.crash()
    for stream in streams:
        with pytest.raises(EngineError, match="given up: it crashed too often"):
            [chunk async for chunk in stream]
    with pytest.raises(EngineError, match="given up"):
        await made.say("c", PROMPT, greedy(5))
    with pytest.raises(EngineError, match="given up"):
        await made.engine.prompt_logprobs(PROMPT)
    assert "given up" in made.incidents[-1]


async def test_a_stop_that_nobody_asked_for_is_gone_over(rig: Callable[..., Any]) -> None:
    foreign = continuation(PROMPT, 6)[4]
    made = await rig(FakeServer(own_stop_ids=frozenset({foreign})))
    check(await made.say("a", PROMPT, greedy(20)), 20)


@pytest.mark.parametrize("kind", ["half", "end", "garbage", "hang", "freeze", "crash"])
async def test_a_request_is_complete_without_its_usage(rig: Callable[..., Any], kind: str) -> None:
    made = await rig(FakeServer(delay_s=0.01), silence_s=0.3)
    made.server.usage_fault = Fault(kind)
    said = await made.say("a", PROMPT, greedy(20))
    check(said, 20)
    assert said.counts == (0, len(PROMPT))
    assert made.engine.stats.retries == 0


async def test_usage_that_comes_in_pieces_is_waited_for(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(delay_s=0.01))
    made.server.usage_fault = Fault("pieces")
    said = await made.say("a", PROMPT, greedy(20))
    check(said, 20)
    assert said.counts == (2, 3)


async def test_who_closes_while_the_usage_is_missing_gets_the_end(rig: Callable[..., Any]) -> None:
    made = await rig(silence_s=60.0)
    made.server.usage_fault = Fault("hang")
    task = asyncio.create_task(made.say("a", PROMPT, greedy(20)))
    await asyncio.sleep(0.2)
    await made.engine.aclose()
    check(await task, 20)


async def test_silent_streams_share_a_probe(rig: Callable[..., Any]) -> None:
    made = await rig(silence_s=0.3)
    made.server.faults += [Fault("hang", 2)] * 10
    tasks = [asyncio.create_task(made.say(str(n), [n, *PROMPT], greedy(9))) for n in range(10)]
    started = asyncio.get_running_loop().time()
    await until(lambda: made.server.probes >= 2)
    rounds = (asyncio.get_running_loop().time() - started) / 0.3
    assert made.server.probes <= 2 + rounds, "one a silence, not ten"
    await made.server.crash()
    for number, task in enumerate(tasks):
        check(await task, 9, [number, *PROMPT])


@pytest.mark.parametrize("kind", ["cut", "503", "freeze", "crash"])
async def test_questions_are_repeated(rig: Callable[..., Any], kind: str) -> None:
    made = await rig(silence_s=0.3, probe_s=0.2)
    made.server.faults.append(Fault(kind))
    assert await made.engine.stop_logits([("a", PROMPT)]) == pytest.approx([score(PROMPT)])
    made.server.faults.append(Fault(kind))
    expected = [logprob(PROMPT[:place], PROMPT[place]) for place in range(1, len(PROMPT))]
    assert await made.engine.prompt_logprobs(PROMPT) == expected
    assert made.engine.stats.retries == 2


async def test_a_question_waits_for_a_server_that_works(rig: Callable[..., Any]) -> None:
    made = await rig(silence_s=0.07)  # twice in the time that the answer takes
    made.server.faults.append(Fault("slow"))
    assert await made.engine.stop_logits([("a", PROMPT)]) == pytest.approx([score(PROMPT)])
    assert made.server.probes >= 2
    assert len(made.server.bodies) == 1


@pytest.mark.parametrize("place", ["reading", "connecting", "recovering", "queueing", "asking"])
async def test_aclose_ends_every_kind_of_waiting(rig: Callable[..., Any], place: str) -> None:
    made = await rig(
        FakeServer(capacity=CONTEXT // 2), silence_s=60.0, probe_s=60.0, recover_s=60.0
    )
    if place == "queueing":
        blocker = made.engine.generate("b", [5] * 1800, greedy(100))
        await anext(blocker)
    if place in ("reading", "queueing"):
        made.server.faults.append(Fault("hang"))
    elif place == "recovering":
        await made.server.crash()
    else:
        made.server.thawed.clear()
    asking = place == "asking"
    job = made.engine.stop_logits([("a", PROMPT)]) if asking else made.say("a", PROMPT, greedy(9))
    task = asyncio.create_task(job)
    await asyncio.sleep(0.1)
    assert not task.done()
    await made.engine.aclose()
    if place == "asking":
        with pytest.raises(EngineError, match="closing"):
            await task
    else:
        assert (await task).chunks == [Chunk((), (), FinishReason.ABORT)]
    if place == "queueing":
        assert [c.finish_reason async for c in blocker][-1] is FinishReason.ABORT


@pytest.mark.parametrize("place", ["reading", "connecting", "recovering", "asking"])
async def test_cancelling_ends_every_kind_of_waiting(rig: Callable[..., Any], place: str) -> None:
    made = await rig(silence_s=60.0, probe_s=60.0, recover_s=60.0)
    if place == "reading":
        made.server.faults.append(Fault("hang"))
    elif place == "recovering":
        await made.server.crash()
    else:
        made.server.thawed.clear()
    asking = place == "asking"
    job = made.engine.stop_logits([("a", PROMPT)]) if asking else made.say("a", PROMPT, greedy(9))
    before = asyncio.all_tasks()
    task = asyncio.create_task(job)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.engine._open == set()
    left = asyncio.all_tasks() - before - made.server._tasks
    assert {task.get_name() for task in left} <= {"recovery", "fake"}
