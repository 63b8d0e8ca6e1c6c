"""Leases, spares, starts that fail, and the end of a pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from sandbox.isolation import Isolation, isolation
from sandbox.launcher import ColdLauncher, KernelProcess
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.ports import Sandbox
from sandbox.result import ExecutionStatus
from sandbox.zygote_launcher import ZygoteLauncher
from tests.sandbox.conftest import entries, running, until

PID = "import os; print(os.getpid())"
SMALL = Limits(spares=0, start_concurrency=2)


async def pid_of(sandbox: Sandbox) -> int:
    return int((await sandbox.execute(PID, 30)).stdout)


class CountingLauncher(ColdLauncher):
    """Counts the kernels that start at a time."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.started = 0
        self.failures = 0
        self.before: Callable[[], Awaitable[object]] | None = None

    async def launch(self) -> KernelProcess:
        self.started += 1
        if self.before is not None:
            await self.before()
        if self.failures:
            self.failures -= 1
            raise OSError("no kernel today")
        return await super().launch()


async def test_a_fresh_process_for_every_lease() -> None:
    pids = set()
    async with KernelPool(Limits(spares=1)) as pool:
        for _ in range(3):
            async with pool.lease() as sandbox:
                pids.add(await pid_of(sandbox))
                poison = "import builtins; builtins.print = None; builtins.poison = 1"
                await sandbox.execute(poison, 5)
        async with pool.lease() as sandbox:
            assert (await sandbox.execute("poison", 5)).error == "NameError"
    assert len(pids) == 3
    assert not any(map(running, pids))


async def test_many_leases_with_few_starts_at_a_time() -> None:
    launcher = CountingLauncher(SMALL)
    async with KernelPool(SMALL, launcher) as pool:

        async def use(number: int) -> str:
            async with pool.lease() as sandbox:
                await sandbox.execute(f"n = {number}", 60)
                return (await sandbox.execute("n", 60)).stdout

        peak = 0
        work = asyncio.gather(*map(use, range(8)))
        while not work.done():
            peak = max(peak, SMALL.start_concurrency - pool._slots._value)
            await asyncio.sleep(0.01)
        assert await work == [f"{number}\n" for number in range(8)]
    assert peak == 2
    assert launcher.started == 8


async def test_fifty_leases_leave_nothing_behind() -> None:
    process = psutil.Process()
    async with KernelPool(Limits(spares=1, start_concurrency=3)) as pool:

        async def cycle(count: int) -> None:
            for _ in range(count):
                async with pool.lease() as sandbox:
                    assert (await sandbox.execute("1", 60)).stdout == "1\n"

        async def settle() -> tuple[int, int, int]:
            await until(lambda: not (pool._ends or pool._starts), 60)
            children = process.children(recursive=True)
            return process.num_fds(), len(children), len(entries(launched))

        assert isinstance(pool._launcher, ZygoteLauncher)
        launched: Path = pool._launcher.workspace.folder
        await cycle(2)
        before = await settle()
        await asyncio.gather(cycle(24), cycle(24))
        after = await settle()
    assert after[0] <= before[0] + 2
    assert after[1:] == before[1:]
    assert not entries(launched)


async def test_spares_are_ready_and_hints_raise_their_number() -> None:
    async with KernelPool(Limits(spares=1)) as pool:
        assert await until(lambda: len(pool._ready) == 1, 20)
        pool.prepare(3)
        assert await until(lambda: len(pool._ready) == 3, 20)
        async with pool.lease() as sandbox:
            assert (await sandbox.execute("1", 5)).stdout == "1\n"
            await asyncio.sleep(0.1)
            assert len(pool._ready) == 2  # two are hinted at still, so no more are started
            assert not pool._starts


async def test_a_dead_spare_is_not_handed_out() -> None:
    async with KernelPool(Limits(spares=1)) as pool:
        assert await until(lambda: len(pool._ready) == 1, 20)
        pool._ready[0].kill()
        async with pool.lease() as sandbox:
            result = await sandbox.execute("1", 20)
    assert (result.stdout, result.state_lost) == ("1\n", False)


async def test_a_start_that_fails_once_is_tried_again() -> None:
    launcher = CountingLauncher(SMALL)
    launcher.failures = 1
    async with KernelPool(SMALL, launcher) as pool, pool.lease() as sandbox:
        assert (await sandbox.execute("1", 20)).stdout == "1\n"


async def test_no_kernel_is_a_result_and_does_not_last() -> None:
    launcher = CountingLauncher(SMALL)
    launcher.failures = 2
    async with KernelPool(SMALL, launcher) as pool, pool.lease() as sandbox:
        result = await sandbox.execute("1", 20)
        assert result.status is ExecutionStatus.UNAVAILABLE
        assert "no kernel today" in result.stderr
        assert launcher.started == 2
        assert (await sandbox.execute("1", 20)).stdout == "1\n"


@pytest.mark.parametrize("executable", ["/nonexistent/python", "/bin/false"])
async def test_an_interpreter_that_does_not_work(executable: str) -> None:
    launcher = ColdLauncher(SMALL, executable)
    async with KernelPool(SMALL, launcher) as pool, pool.lease() as sandbox:
        result = await sandbox.execute("1", 20)
        assert result.status is ExecutionStatus.UNAVAILABLE
    assert not entries(launcher.workspace.folder)


async def test_a_start_that_hangs_is_given_up() -> None:
    limits = Limits(spares=0, start_timeout_s=0.3)
    launcher = ColdLauncher(limits, "/bin/sleep")
    launcher._command = lambda *_: ["/bin/sleep", "60"]  # type: ignore[method-assign]
    async with KernelPool(limits, launcher) as pool, pool.lease() as sandbox:
        result = await sandbox.execute("1", 20)
        assert result.status is ExecutionStatus.UNAVAILABLE
    assert not psutil.Process().children()


async def test_waiting_for_a_kernel_counts_towards_the_deadline() -> None:
    launcher = CountingLauncher(SMALL)
    launcher.before = asyncio.Event().wait
    async with KernelPool(SMALL, launcher) as pool, pool.lease() as sandbox:
        result = await sandbox.execute("1", 0.3)
        assert result.status is ExecutionStatus.UNAVAILABLE


async def test_a_kernel_nobody_waits_for_any_more_stays_as_a_spare() -> None:
    async with KernelPool(SMALL) as pool, pool.lease() as sandbox:
        cell = asyncio.create_task(sandbox.execute("1", 20))
        await asyncio.sleep(0.05)
        cell.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cell
        assert await until(lambda: len(pool._ready) == 1, 20)
        result = await sandbox.execute("1", 20)
        assert (result.stdout, result.state_lost) == ("1\n", False)


async def test_closing_is_complete() -> None:
    async with KernelPool(Limits(spares=6, start_concurrency=3)) as pool, pool.lease() as sandbox:
        pid = await pid_of(sandbox)
        assert await until(lambda: len(pool._ready) >= 4, 30)
        daemon = "import subprocess as s; print(s.Popen(['sleep', '300'], process_group=0).pid)"
        child = int((await sandbox.execute(daemon, 5)).stdout)
        pids = [process.pid for process in psutil.Process().children(recursive=True)]
        assert {pid, child} <= set(pids)
        await pool.aclose()
        assert (await sandbox.execute("1", 5)).status is ExecutionStatus.UNAVAILABLE
    assert not any(map(running, pids))


async def test_closing_survives_cancellation() -> None:
    pool = await KernelPool(Limits(spares=2)).__aenter__()
    assert await until(lambda: len(pool._ready) == 2, 20)
    closing = asyncio.create_task(pool.aclose())
    for _ in range(3):
        await asyncio.sleep(0)
        closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not psutil.Process().children()
    assert not (pool._starts or pool._ends)
    await pool.aclose()


async def test_closing_amid_starts_and_cells() -> None:
    async with KernelPool(Limits(spares=1, start_concurrency=2)) as pool:

        async def use() -> ExecutionStatus:
            async with pool.lease() as sandbox:
                return (await sandbox.execute("while True: pass", 60)).status

        cells = [asyncio.create_task(use()) for _ in range(5)]
        assert await until(lambda: len(pool._kernels) >= 2, 20)
    ended = {await cell for cell in cells}
    assert ended <= {ExecutionStatus.DIED, ExecutionStatus.UNAVAILABLE}
    assert not psutil.Process().children()


async def test_says_what_isolation_is_in_force() -> None:
    assert KernelPool().isolation == str(isolation())
    assert str(Isolation()) == "rlimits, process groups (no file or network isolation)"


async def test_without_a_folder_for_kernels_the_pool_opens_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sandbox.workspace.tempfile.mkdtemp", full)
    async with KernelPool(Limits(spares=1)) as pool, pool.lease() as sandbox:
        assert "no kernels: cannot make a folder" in pool.isolation
        told = await sandbox.execute("1 + 1", 10)
    assert told.status is ExecutionStatus.UNAVAILABLE
    assert "no kernels: cannot make a folder" in told.stderr
    assert "no kernels" in caplog.text
