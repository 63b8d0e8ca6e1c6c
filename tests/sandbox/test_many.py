"""A thousand cells over 24 kernels, a tenth of them hostile: nothing lost, nothing left."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

import psutil
import pytest

from sandbox.hardening.tree import descendants
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.result import ExecutionResult
from sandbox.zygote_launcher import ZygoteLauncher
from tests.sandbox.conftest import entries, until
from tests.sandbox.hostile import CASES, CONTAINED, DEATHS, MEMORY_HIDDEN, MESSAGES, REACH

KERNELS, CELLS, HOSTILE = 24, 1000, 10
LIMITS = Limits(
    grace_s=0.6,
    memory_bytes=1 << 30,
    resident_bytes=1 << 30,
    folder_bytes=32 << 20,
    file_bytes=16 << 20,
    spares=4,
)
SLOW = {"fork_bomb", "fork_times_allocation", "many_small_files", "deep_folders"}
SHORT_S = 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
@pytest.mark.timeout(600)
async def test_a_thousand_cells_of_which_a_tenth_are_hostile() -> None:
    attacks = itertools.cycle(
        case
        for case in (*DEATHS, *MESSAGES, *REACH, *MEMORY_HIDDEN, *CONTAINED)
        if case.timeout_s <= 10 and case.name not in SLOW and "{peer}" not in case.code
    )
    numbers = iter(range(CELLS))
    rows: dict[int, ExecutionResult] = {}
    children = set(psutil.Process().children())
    async with KernelPool(LIMITS) as pool:
        launcher = pool._launcher
        assert isinstance(launcher, ZygoteLauncher)

        async def trajectory() -> None:
            async with pool.lease() as sandbox:
                for number in numbers:
                    if number % HOSTILE:
                        rows[number] = await sandbox.execute(f"{number} + 1", 60)
                    else:
                        code = next(attacks).code.replace("{solver}", str(os.getpid()))
                        code = code.replace("{{", "{").replace("}}", "}")
                        rows[number] = await sandbox.execute(code, SHORT_S)

        async def settled() -> tuple[int, int, int, float]:
            settling = until(lambda: not (pool._ends or pool._starts), 120)
            assert await settling, (pool._ends, pool._starts)
            assert launcher._zygote is not None
            kernels = {kernel.watched.pid for kernel in pool._kernels}
            others = set(descendants([launcher._zygote.pid])) - kernels
            ours = psutil.Process()
            return (
                ours.num_fds() - 3 * len(kernels),  # two channels and the process
                len(others),
                len(entries(launcher.workspace.folder)) - len(kernels),
                ours.memory_info().rss / 2**20,
            )

        await asyncio.gather(*(trajectory_of(pool, number) for number in range(KERNELS)))
        before = await settled()
        await asyncio.gather(*(trajectory() for _ in range(KERNELS)))
        after = await settled()
    assert sorted(rows) == list(range(CELLS))
    for number, result in rows.items():
        if number % HOSTILE:
            # What an earlier hostile cell left behind in its own kernel may speak up in between.
            assert result.status == "ok" and f"{number + 1}\n" in result.stdout, (number, result)
    for was, came in zip(before[:3], after[:3], strict=True):
        assert came <= was + 2, (before, after)
    assert after[3] - before[3] < 32, (before, after)
    assert set(psutil.Process().children()) <= children
    assert not entries(launcher.workspace.folder)


async def trajectory_of(pool: KernelPool, number: int) -> None:
    async with pool.lease() as sandbox:
        assert (await sandbox.execute(f"{number}", 60)).status == "ok"


def test_every_kind_is_in_the_list() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
