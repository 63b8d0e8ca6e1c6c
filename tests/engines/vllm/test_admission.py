"""No more tokens in flight than the cache holds; the oldest request always goes on; all requests end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from solver.engines.vllm.admission import HEADROOM, MARGIN, Admission, Slot
from solver.types import FinishReason
from tests.engines.vllm.conftest import greedy
from tests.support.fake_vllm import FakeServer, continuation


async def enters(admission: Admission, slot: Slot) -> bool:
    """Whether it gets its slot at once; if not it goes on waiting."""
    task = asyncio.ensure_future(admission.acquire(slot))
    waiting.append(task)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task.done()


waiting: list[asyncio.Future[None]] = []


@pytest.fixture(autouse=True)
async def _cancel_waiting() -> Any:
    yield
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    waiting.clear()


async def test_a_slot_that_does_not_fit_waits_and_so_do_all_after_it() -> None:
    admission = Admission(1000)
    first, big, small = Slot(400), Slot(500), Slot(10)
    assert await enters(admission, first)
    assert not await enters(admission, big)
    assert not await enters(admission, small), "slots are admitted in order"
    admission.release(first)
    await asyncio.sleep(0)
    assert admission.in_flight == 510 + 2 * HEADROOM


async def test_a_slot_that_never_fits_is_admitted_alone() -> None:
    admission = Admission(100)
    assert await enters(admission, Slot(5000))
    assert not await enters(admission, Slot(1))


async def test_unknown_capacity_is_unlimited() -> None:
    admission = Admission(None)
    slots = [Slot(10**6) for _ in range(10)]
    assert all([await enters(admission, slot) for slot in slots])
    admission.grow(slots[0], 10**9)
    assert admission.preemptions == 0


async def test_the_newest_slot_is_preempted_and_admitted_again_before_later_ones() -> None:
    gone: list[str] = []
    admission = Admission(1000)
    old = Slot(200, lambda: gone.append("old"))
    young = Slot(200, lambda: gone.append("young"))
    assert await enters(admission, old) and await enters(admission, young)
    newest = Slot(500)
    assert not await enters(admission, newest)
    admission.grow(old, 1000 - 400 - 2 * HEADROOM)
    assert gone == []
    admission.grow(old, 1)
    assert gone == ["young"]
    assert not await enters(admission, young), "there must be a margin"
    admission.release(old)
    await asyncio.sleep(0)
    assert admission.in_flight == 200 + HEADROOM, (
        "the preempted one is admitted, the last does not fit"
    )
    assert MARGIN + 700 + 2 * HEADROOM > 1000


async def test_scores_are_not_preempted() -> None:
    gone: list[int] = []
    admission = Admission(1000)
    old, score = Slot(200, lambda: gone.append(0)), Slot(200)
    assert await enters(admission, old) and await enters(admission, score)
    admission.grow(old, 600)
    assert gone == [0], "the only one that can be preempted"


async def test_a_cancelled_slot_leaves_the_queue() -> None:
    admission = Admission(1000)
    first, second, third = Slot(900), Slot(900), Slot(50)
    assert await enters(admission, first)
    assert not await enters(admission, second)
    assert not await enters(admission, third)
    waiting[1].cancel()
    await asyncio.sleep(0)
    admission.release(first)
    await asyncio.sleep(0)
    assert admission.in_flight == 50 + HEADROOM


async def test_the_cache_is_never_overfull_and_no_id_changes(rig: Callable[..., Any]) -> None:
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
    assert made.engine.stats.preemptions > 0, "else this tests nothing"
    assert made.engine.stats.retries == 0
    assert capacity // 2 < made.server.most_in_flight <= capacity
    assert made.server.aborted == made.engine.stats.preemptions


async def test_a_request_preempted_while_nobody_reads_is_aborted_at_once(
    rig: Callable[..., Any],
) -> None:
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
    assert made.engine.stats.preemptions == 1
    await old.aclose()
    async for chunk in young:
        kept += chunk.token_ids
    assert kept == continuation([2] * 300, 400)
