"""The zygote: what it starts, what happens when it dies, and that nothing grows."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sandbox.hardening.tree import descendants
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.zygote_launcher import TRIES, ZygoteLauncher
from tests.sandbox.conftest import entries, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a zygote on Linux only")

SMALL = Limits(spares=0)
ROOT = Path(__file__).parents[2]
PPID = "import os; print(os.getppid())"


async def test_kernels_are_forks_of_one_warmed_process() -> None:
    launcher = ZygoteLauncher(SMALL)
    async with KernelPool(SMALL, launcher) as pool:
        parents = set()
        for _ in range(3):
            async with pool.lease() as sandbox:
                parents.add(int((await sandbox.execute(PPID, 60)).stdout))
                loaded = "import sys; [n in sys.modules for n in ('numpy', 'sympy', 'mpmath')]"
                assert (await sandbox.execute(loaded, 60)).stdout == "[True, True, True]\n"
                assert (await sandbox.execute("'debugpy' in sys.modules", 5)).stdout == "True\n"
        assert launcher._zygote is not None
        assert parents == {launcher._zygote.pid}
        zygote = psutil.Process(launcher._zygote.pid)
        assert zygote.num_threads() == 1
        assert zygote.environ().keys().isdisjoint({"VIRTUAL_ENV", "PYTEST_CURRENT_TEST", "PWD"})
    assert not running(zygote.pid)
    assert not launcher.workspace.folder.exists()


async def test_a_dead_zygote_is_replaced_and_cold_kernels_start_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    children = set(psutil.Process().children())
    launcher = ZygoteLauncher(SMALL)
    async with KernelPool(SMALL, launcher) as pool, pool.lease() as before, pool.lease() as cold:
        await before.execute("x = 1", 60)
        assert launcher._zygote is not None
        first = launcher._zygote.pid
        below = descendants([first])
        psutil.Process(first).kill()
        assert await until(lambda: not any(map(running, below)), 20)
        with caplog.at_level(logging.WARNING):
            after = await before.execute("1 + 1", 60)
            assert after.state_lost
            if not after.stdout:  # the cell was on its way when the solver saw the kernel's end
                after = await before.execute("1 + 1", 60)
            assert after.stdout == "2\n"
            await cold.execute("1", 60)
        assert "kernels start cold" in caplog.text
        assert await until(lambda: launcher._zygote is not None and launcher._zygote.alive, 20)
        assert launcher._zygote.pid != first
        async with pool.lease() as warm:
            parent = int((await warm.execute(PPID, 60)).stdout)
            assert parent == launcher._zygote.pid
    assert set(psutil.Process().children()) <= children


async def test_a_frozen_zygote_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.zygote_client.START_TIMEOUT_S", 0.5)
    launcher = ZygoteLauncher(SMALL)
    async with KernelPool(SMALL, launcher) as pool:
        async with pool.lease() as sandbox:
            await sandbox.execute("1", 60)
        assert launcher._zygote is not None
        first = launcher._zygote.pid
        psutil.Process(first).suspend()
        for _ in range(4):  # more than were kept ready
            async with pool.lease() as sandbox:
                assert (await sandbox.execute("1 + 1", 60)).stdout == "2\n"
        assert await until(lambda: not running(first), 20)
        assert await until(lambda: launcher._zygote is not None and launcher._zygote.alive, 20)


DAEMON = """
import os
if os.fork() == 0:
    os.setsid()
    if (daemon := os.fork()) == 0:
        os.execve('/bin/sleep', ['sleep', '300'], {})
    with open('pid', 'w') as file: file.write(str(daemon))
    os._exit(0)
os.wait(); print(open('pid').read())
"""


async def test_daemons_end_with_a_zygote_that_is_killed() -> None:
    async with KernelPool(SMALL) as pool, pool.lease() as sandbox:
        daemon = int((await sandbox.execute(DAEMON, 20)).stdout)
        orphan = f"{DAEMON.rstrip()}\nos._exit(1)"
        assert running(daemon)
        await sandbox.execute(orphan, 20)
        second = int((await sandbox.execute(DAEMON, 20)).stdout)
        zygote = pool._launcher._zygote  # type: ignore[union-attr]
        psutil.Process(zygote.pid).kill()
        assert await until(lambda: not running(daemon) and not running(second), 20)
        keeper = zygote._process
        assert await until(lambda: keeper.poll() is not None, 20)


async def test_kernels_end_with_a_keeper_that_is_killed() -> None:
    async with KernelPool(SMALL) as pool, pool.lease() as sandbox:
        daemon = int((await sandbox.execute(DAEMON, 20)).stdout)
        zygote = pool._launcher._zygote  # type: ignore[union-attr]
        zygote._process.kill()
        assert await until(lambda: not running(daemon) and not running(zygote.pid), 20)
        assert (await sandbox.execute("1 + 1", 30)).stdout == "2\n"


async def test_a_zygote_that_just_died_is_asked_for_nothing_more() -> None:
    """The launch after the one that found it dead starts cold, though no other is warm yet."""
    launcher = ZygoteLauncher(SMALL)
    async with KernelPool(SMALL, launcher) as pool:
        async with pool.lease() as sandbox:
            await sandbox.execute("1", 60)
        assert launcher._zygote is not None
        psutil.Process(launcher._zygote.pid).kill()
        assert await until(lambda: not launcher._zygote.alive, 20)
        kernel = await launcher.launch()
        kernel.kill()
        await kernel.reap()


async def test_without_a_zygote_kernels_start_cold(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Path("/nonexistent/boot.py")
    monkeypatch.setattr("sandbox.zygote_client.BOOT", broken)
    launcher = ZygoteLauncher(SMALL)
    async with KernelPool(SMALL, launcher) as pool:
        for _ in range(TRIES + 1):
            async with pool.lease() as sandbox:
                assert (await sandbox.execute("1 + 1", 30)).stdout == "2\n"
            if launcher._warming is not None:
                await asyncio.wait({launcher._warming})
    assert caplog.text.count("no zygote, kernels start cold") == TRIES
    assert str(broken) in caplog.text  # why


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    launcher = ZygoteLauncher(SMALL)
    kernel = await launcher.launch()
    kernel.kill()
    await kernel.reap()
    for delay in (0.0, 0.001, 0.003, 0.01):
        start = asyncio.create_task(launcher.launch())
        await asyncio.sleep(delay)
        start.cancel()
        outcome = (await asyncio.gather(start, return_exceptions=True))[0]
        if not isinstance(outcome, BaseException):
            outcome.kill()
            await outcome.reap()
    assert launcher._zygote is not None
    assert not descendants([launcher._zygote.pid])
    assert entries(launcher.workspace.folder) == ["zygote.log"]
    await launcher.aclose()


@pytest.mark.timeout(240)
async def test_three_hundred_replacements_grow_nothing() -> None:
    limits = Limits(spares=2, start_concurrency=2)
    async with KernelPool(limits) as pool:
        assert isinstance(pool._launcher, ZygoteLauncher)
        ours = psutil.Process()

        async def replace(count: int) -> None:
            async with pool.lease() as sandbox:
                for _ in range(count):
                    result = await sandbox.execute("import os; os._exit(1)", 60)
                    assert result.state_lost, result

        async def settle() -> tuple[int, int, int, int, float, float]:
            await until(lambda: not (pool._ends or pool._starts), 20)
            assert pool._launcher is not None
            zygote = psutil.Process(pool._launcher._zygote.pid)  # type: ignore[attr-defined]
            return (
                ours.num_fds(),
                zygote.num_fds(),
                len(descendants([ours.pid])),
                len(entries(pool._launcher.workspace.folder)),  # type: ignore[attr-defined]
                ours.memory_info().rss / 2**20,
                zygote.memory_info().rss / 2**20,
            )

        await replace(30)
        before = await settle()
        await asyncio.gather(replace(135), replace(135))
        after = await settle()
    for was, came in zip(before[:4], after[:4], strict=True):
        assert came <= was + 2, (before, after)
    for was, came in zip(before[4:], after[4:], strict=True):
        assert came < was + 15, (before, after)


async def test_a_fork_that_returns_is_no_second_kernel() -> None:
    async with KernelPool(SMALL) as pool, pool.lease() as sandbox:
        pid = int((await sandbox.execute("import os; os.getpid()", 60)).stdout)
        assert (await sandbox.execute("os.fork(); print('x', end='')", 60)).status == "ok"
        assert await until(lambda: not any(map(running, descendants([pid]))), 20)
        assert (await sandbox.execute("1 + 1", 60)).stdout.endswith("2\n")


SHOWS = """
import asyncio
from sandbox.pool import KernelPool
async def main():
    async with KernelPool() as pool, pool.lease() as sandbox:
        await sandbox.execute("import os; os.write(1, b'raw'); os.write(2, b'raw')", 30)
        await sandbox.execute("import sys; print('raw', file=sys.__stderr__)", 30)
asyncio.run(main())
"""


async def test_kernels_write_nothing_to_the_solvers_terminal() -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", SHOWS], cwd=ROOT, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"raw" not in done.stderr


async def test_no_first_cell_loses_its_output() -> None:
    async with KernelPool(Limits(spares=4, start_concurrency=4)) as pool:

        async def first(number: int) -> str:
            async with pool.lease() as sandbox:
                return (await sandbox.execute(f"print({number})", 60)).stdout

        assert await asyncio.gather(*map(first, range(70))) == [f"{n}\n" for n in range(70)]
