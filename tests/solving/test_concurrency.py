"""Running together: who is still running when it is over is cancelled, awaited and gone."""

from __future__ import annotations

import asyncio
import math

import pytest

from solver.solving.concurrency import run_together
from tests.support import run_virtual


async def _sleep(seconds: float, log: list[str], name: str) -> None:
    try:
        await asyncio.sleep(seconds)
        log.append(f"{name} done")
    except asyncio.CancelledError:
        await asyncio.sleep(0.1)  # closing takes a moment
        log.append(f"{name} cancelled")
        raise


def test_waits_for_all_without_a_deadline() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        jobs = [_sleep(s, log, str(s)) for s in (2, 1)]
        await run_together(jobs, deadline=math.inf, stopping=asyncio.Event())
        return log

    assert run_virtual(main()) == ["1 done", "2 done"]


def test_deadline_cancels_and_awaits_the_rest() -> None:
    async def main() -> tuple[list[str], float]:
        log: list[str] = []
        loop = asyncio.get_running_loop()
        began = loop.time()
        jobs = [_sleep(s, log, str(s)) for s in (1, 1000)]
        await run_together(jobs, deadline=began + 5, stopping=asyncio.Event())
        return log, loop.time() - began

    log, elapsed = run_virtual(main())
    assert log == ["1 done", "1000 cancelled"]
    assert elapsed == pytest.approx(5.1)


def test_condition_ends_it() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        jobs = [_sleep(s, log, str(s)) for s in (1, 2, 1000)]
        await run_together(
            jobs, deadline=math.inf, stopping=asyncio.Event(), until=lambda: len(log) == 2
        )
        return log

    assert run_virtual(main()) == ["1 done", "2 done", "1000 cancelled"]


def test_stopping_ends_it() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        stopping = asyncio.Event()
        asyncio.get_running_loop().call_later(3, stopping.set)
        await run_together([_sleep(1000, log, "a")], deadline=math.inf, stopping=stopping)
        return log

    assert run_virtual(main()) == ["a cancelled"]


def test_own_cancellation_leaves_nothing_behind() -> None:
    async def main() -> list[str]:
        log: list[str] = []
        jobs = [_sleep(1000, log, "a")]
        task = asyncio.ensure_future(
            run_together(jobs, deadline=math.inf, stopping=asyncio.Event())
        )
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return log

    assert run_virtual(main()) == ["a cancelled"]


def test_a_bug_is_raised_after_the_others_ended() -> None:
    async def broken() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError

    async def main() -> list[str]:
        log: list[str] = []
        with pytest.raises(ZeroDivisionError):
            await run_together(
                [broken(), _sleep(9, log, "a")], deadline=math.inf, stopping=asyncio.Event()
            )
        return log

    assert run_virtual(main()) == ["a cancelled"]
