"""Waits that others end."""

from __future__ import annotations

import asyncio

import pytest

from solver.engines.vllm.waiting import CalledOff, Waiter


async def test_a_wait_ends_when_it_is_called_off() -> None:
    waiter = Waiter()
    asyncio.get_running_loop().call_soon(waiter.call_off)
    with pytest.raises(CalledOff):
        async with waiter.within(None):
            await asyncio.Event().wait()


async def test_the_next_wait_ends_until_it_is_called_on() -> None:
    waiter = Waiter()
    waiter.call_off()
    for _ in range(2):
        with pytest.raises(CalledOff):
            async with waiter.within(None):
                raise AssertionError("not entered")
    waiter.call_on()
    async with waiter.within(None):
        await asyncio.sleep(0)


async def test_what_fails_when_it_is_called_off_fails_because_of_it() -> None:
    waiter = Waiter()
    with pytest.raises(CalledOff):
        async with waiter.within(None):
            waiter.call_off()
            raise ValueError("closed under my hands")


async def test_what_is_done_when_it_is_called_off_is_done() -> None:
    waiter = Waiter()
    async with waiter.within(None):
        waiter.call_off()
    with pytest.raises(CalledOff):
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
    waiter.call_off()
    with pytest.raises((asyncio.CancelledError, CalledOff)) as caught:
        await task
    assert caught.type is asyncio.CancelledError, "a cancelled consumer is not asked to go on"
