"""No more tokens in flight than the cache holds, the oldest always goes on, everybody ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from solver.engines.vllm.admission import HEADROOM, MARGIN, Admission, Seat
from solver.types import FinishReason
from tests.engines.vllm.conftest import greedy
from tests.engines.vllm.fake_server import FakeServer, continuation


async def sits(admission: Admission, seat: Seat) -> bool:
    """Whether it gets its seat at once; if not it waits on."""
    task = asyncio.ensure_future(admission.enter(seat))
    waiting.append(task)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task.done()


waiting: list[asyncio.Future[None]] = []


@pytest.fixture(autouse=True)
async def _nobody_waits() -> Any:
    yield
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    waiting.clear()


async def test_who_does_not_fit_waits_and_so_do_all_behind() -> None:
    admission = Admission(1000)
    first, big, small = Seat(400), Seat(500), Seat(10)
    assert await sits(admission, first)
    assert not await sits(admission, big)
    assert not await sits(admission, small), "nobody overtakes"
    admission.leave(first)
    await asyncio.sleep(0)
    assert admission.in_flight == 510 + 2 * HEADROOM


async def test_one_that_never_fits_sits_alone() -> None:
    admission = Admission(100)
    assert await sits(admission, Seat(5000))
    assert not await sits(admission, Seat(1))


async def test_unknown_capacity_is_unlimited() -> None:
    admission = Admission(None)
    seats = [Seat(10**6) for _ in range(10)]
    assert all([await sits(admission, seat) for seat in seats])
    admission.grow(seats[0], 10**9)
    assert admission.gave_way == 0


async def test_the_youngest_gives_way_and_comes_back_before_newer_ones() -> None:
    gone: list[str] = []
    admission = Admission(1000)
    old = Seat(200, lambda: gone.append("old"))
    young = Seat(200, lambda: gone.append("young"))
    assert await sits(admission, old) and await sits(admission, young)
    newest = Seat(500)
    assert not await sits(admission, newest)
    admission.grow(old, 1000 - 400 - 2 * HEADROOM)
    assert gone == []
    admission.grow(old, 1)
    assert gone == ["young"]
    assert not await sits(admission, young), "there must be a margin"
    admission.leave(old)
    await asyncio.sleep(0)
    assert admission.in_flight == 200 + HEADROOM, "the young one sits, the newest does not fit"
    assert MARGIN + 700 + 2 * HEADROOM > 1000


async def test_scores_do_not_give_way() -> None:
    gone: list[int] = []
    admission = Admission(1000)
    old, score = Seat(200, lambda: gone.append(0)), Seat(200)
    assert await sits(admission, old) and await sits(admission, score)
    admission.grow(old, 600)
    assert gone == [0], "the oldest of those who can"


async def test_who_is_cancelled_leaves_the_queue() -> None:
    admission = Admission(1000)
    first, second, third = Seat(900), Seat(900), Seat(50)
    assert await sits(admission, first)
    assert not await sits(admission, second)
    assert not await sits(admission, third)
    waiting[1].cancel()
    await asyncio.sleep(0)
    admission.leave(first)
    await asyncio.sleep(0)
    assert admission.in_flight == 50 + HEADROOM


async def test_the_cache_is_never_overfull_and_nothing_shows(rig: Callable[..., Any]) -> None:
    capacity = 1500
    made = await rig(FakeServer(delay_s=0.001, capacity=capacity))
    draw = random.Random(0)
    prompts = [[n, *(draw.randrange(90) for _ in range(draw.randrange(150)))] for n in range(24)]
    lengths = [draw.randrange(100, 400) for _ in prompts]
    said = await asyncio.gather(
        *(
            made.say(str(n), prompt, greedy(length))
            for n, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
        )
    )
    for one, prompt, length in zip(said, prompts, lengths, strict=True):
        assert one.ids == continuation(prompt, length)
        assert one.chunks[-1].finish_reason is FinishReason.LENGTH
    assert made.engine.stats.gave_way > 0, "else this tests nothing"
    assert made.engine.stats.retries == 0
    assert capacity // 2 < made.server.most_in_flight <= capacity
    assert made.server.aborted == made.engine.stats.gave_way


async def test_who_gives_way_while_nobody_reads_is_aborted_at_once(rig: Callable[..., Any]) -> None:
    made = await rig(FakeServer(delay_s=0.001, capacity=800))
    old = made.engine.generate("old", [1] * 100, greedy(600))
    young = made.engine.generate("young", [2] * 300, greedy(400))
    got = list((await anext(old)).token_ids)
    kept = list((await anext(young)).token_ids)
    async for chunk in old:
        got += chunk.token_ids
        if made.server.aborted:
            break
    assert len(got) < 600
    assert made.engine.stats.gave_way == 1
    await old.aclose()
    async for chunk in young:
        kept += chunk.token_ids
    assert kept == continuation([2] * 300, 400)
