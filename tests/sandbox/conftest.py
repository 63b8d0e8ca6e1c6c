"""Pools of real kernels shared by the tests of a module."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest_asyncio

from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.ports import Sandbox

LIMITS = Limits(grace_s=0.6, memory_bytes=1 << 30, spares=2, start_concurrency=2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[KernelPool]:
    async with KernelPool(LIMITS) as pool:
        yield pool


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(pool: KernelPool) -> AsyncIterator[Sandbox]:
    async with pool.lease() as sandbox:
        yield sandbox


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def entries(path: Path) -> list[str]:
    """Names in a folder; none where there is no folder."""
    return sorted(entry.name for entry in path.iterdir()) if path.exists() else []
