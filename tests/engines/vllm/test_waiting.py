"""Waits that another task cancels."""

from __future__ import annotations

import asyncio

import pytest

from solver.engines.vllm.waiting import WaitCancelled, Waiter


async def test_a_cancelled_wait_ends() -> None:
    waiter = Waiter()
    asyncio.get_running_loop().call_soon(waiter.cancel_wait)
    with pytest.raises(WaitCancelled):
        async with waiter.within(None):
            await asyncio.Event().wait()


async def test_a_pending_cancellation_ends_the_next_wait_until_it_is_reset() -> None:
    waiter = Waiter()
    waiter.cancel_wait()
    for _ in range(2):
        with pytest.raises(WaitCancelled):
            async with waiter.within(None):
                raise AssertionError("not entered")
    waiter.reset()
    async with waiter.within(None):
        await asyncio.sleep(0)


async def test_a_failure_after_a_cancellation_counts_as_the_cancellation() -> None:
    waiter = Waiter()
    with pytest.raises(WaitCancelled):
        async with waiter.within(None):
            waiter.cancel_wait()
            raise ValueError("closed")


async def test_a_wait_that_was_done_when_cancelled_is_done() -> None:
    waiter = Waiter()
    async with waiter.within(None):
        waiter.cancel_wait()
    with pytest.raises(WaitCancelled):
        async with waiter.within(None):
            raise AssertionError("not entered")


async def test_time_is_up_and_cancelling_is_cancelling() -> None:
    waiter = Waiter()
    with pytest.raises(TimeoutError):
        async with waiter.within(0.01):
            await asyncio.Event().wait()

    async def wait() -> None:
        async with waiter.within(None):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    waiter.cancel_wait()
    with pytest.raises((asyncio.CancelledError, WaitCancelled)) as caught:
        await task
    assert caught.type is asyncio.CancelledError, "a cancelled consumer is not asked to go on"
