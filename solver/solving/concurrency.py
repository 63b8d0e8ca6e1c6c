"""Run many coroutines together until all are done, time is up, a condition holds, or a stop is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

Job = Coroutine[Any, Any, None]


def never() -> bool:
    """The condition of those who wait for everybody."""
    return False


async def run_together(
    jobs: Iterable[Job],
    *,
    deadline: float,
    stopping: asyncio.Event,
    until: Callable[[], bool] = never,
) -> None:
    """Run `jobs` concurrently; cancel the rest at `deadline` (loop seconds), on `until()` or `stopping`.

    `until` is asked whenever a job ends. Returns when every job has ended, cancelled ones included,
    so nothing is left behind, also when this call is itself cancelled. A job's exception is raised
    after the others have been cancelled.
    """
    tasks = {asyncio.ensure_future(job) for job in jobs}
    watcher = asyncio.ensure_future(stopping.wait())
    running = set(tasks)
    try:
        while running and not stopping.is_set() and not until():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            done, _ = await asyncio.wait(
                running | {watcher}, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            running -= done
            for task in done & tasks:
                task.result()
    finally:
        await _end({*running, watcher})


async def _end(tasks: set[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    # Cancelled tasks may need a moment to close their streams and kernels; they are waited for.
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
