"""Watchdogs, and the cells that are run again in a replaced kernel."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.result import ExecutionStatus, for_model
from sandbox.watchdog import FileLook, Watched, too_much_memory
from tests.sandbox.conftest import running, until

HOLD = "import time\nb = bytearray(b'x') * (300 << 20)\ntime.sleep(20)"
EXIT = "import os; os._exit(1)"


async def test_too_much_resident_memory_stops_a_kernel() -> None:
    limits = Limits(spares=0, resident_bytes=1 << 28)
    async with KernelPool(limits) as pool, pool.lease() as sandbox:
        result = await sandbox.execute(HOLD, 20)
        assert result.status is ExecutionStatus.KILLED
        told = for_model(result, limits)
        assert "s (more than 0.25 GiB of memory) and was restarted; all variables lost." in told
        assert (await sandbox.execute("b", 20)).error == "NameError"


async def test_the_largest_kernel_goes_when_the_machine_is_full() -> None:
    limits = Limits(spares=0, floor_bytes=1 << 50)
    async with KernelPool(Limits(spares=0)) as pool, pool.lease() as one, pool.lease() as other:
        await one.execute("b = bytearray(b'x') * (100 << 20)", 20)
        pid = int((await one.execute("import os; os.getpid()", 20)).stdout)
        await other.execute("1", 20)
        kernels = [kernel.watched for kernel in pool._kernels]
        found = too_much_memory(kernels, limits)
        assert [(kernel.pid, reason) for kernel, reason in found.items()] == [
            (pid, "the machine's memory is nearly used up")
        ]
        assert not too_much_memory(kernels, Limits())
        assert not too_much_memory([], limits)


async def test_processes_are_counted_where_no_limit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with KernelPool(Limits(spares=0)) as pool, pool.lease() as sandbox:
        code = "import subprocess as s\np = [s.Popen(['sleep', '99']) for _ in range(20)]; p[0].pid"
        pid = int((await sandbox.execute(code, 20)).stdout)
        kernels = [kernel.watched for kernel in pool._kernels]
        assert too_much_memory(kernels, Limits(processes=16)) == {
            kernels[0]: "more than 16 processes"
        }
    assert await until(lambda: not running(pid), 20)


async def test_a_kernel_stopped_between_cells_is_told() -> None:
    async with KernelPool(Limits(spares=0)) as pool, pool.lease() as sandbox:
        await sandbox.execute("x = 1", 20)
        next(iter(pool._kernels)).stop("it was in the way")
        result = await sandbox.execute("1", 20)
        assert (result.stdout, result.state_lost) == ("1\n", True)


async def test_a_watchdog_that_fails_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def broken(*_: object) -> int:
        calls.append(1)
        raise RuntimeError("no /proc today")

    monkeypatch.setattr("sandbox.watchdog.available_memory", broken)
    monkeypatch.setattr("sandbox.watchdog.POLL_S", 0.01)
    async with KernelPool(Limits(spares=1)):
        while len(calls) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert "no /proc today" in caplog.text


async def test_memory_is_looked_at_while_folders_are_counted_and_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look at folders that takes for ever, and every thread of the event loop's own busy."""
    over = threading.Event()

    def slow(*_: object) -> int:
        over.wait(60)
        return 0

    monkeypatch.setattr("sandbox.watchdog.stored", slow)
    limits = Limits(spares=0, resident_bytes=1 << 28)
    async with KernelPool(limits) as pool, pool.lease() as sandbox:
        busy = [asyncio.to_thread(over.wait, 60) for _ in range(64)]
        waiting = asyncio.gather(*busy)
        try:
            result = await sandbox.execute(HOLD, 20)
        finally:
            over.set()
            await waiting
        assert result.stopped == "more than 0.25 GiB of memory"


SOCKETS = """
import os, socket, time
for _ in range(4):
    if os.fork() == 0:
        pairs = [socket.socketpair() for _ in range(60)]
        for one, _ in pairs:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
            one.setblocking(False)
            try:
                while True: one.send(bytes(1 << 16))
            except BlockingIOError: pass
        time.sleep(60)
os.getpid()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_who_hides_memory_goes_and_not_its_neighbour() -> None:
    async with KernelPool(Limits(spares=0)) as pool, pool.lease() as one, pool.lease() as other:
        await one.execute("b = bytearray(b'x') * (100 << 20)", 20)
        pid = int((await other.execute(SOCKETS, 20)).stdout)
        await asyncio.sleep(1)
        kernels = [kernel.watched for kernel in pool._kernels]
        found = too_much_memory(kernels, Limits(floor_bytes=1 << 50))
        assert [kernel.pid for kernel in found] == [pid]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_what_cannot_be_looked_into_counts_as_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hidden(_: object) -> None:
        raise PermissionError

    async with KernelPool(Limits(spares=0)) as pool, pool.lease() as sandbox:
        await sandbox.execute("1", 20)
        monkeypatch.setattr("sandbox.usage._descriptors", hidden)
        kernel = next(iter(pool._kernels)).watched
        for look, limits in (
            (too_much_memory, Limits(resident_bytes=1 << 28)),
            (FileLook(), Limits()),
        ):
            assert list(look([kernel], limits)) == [kernel]
            told = Watched(kernel.pid, kernel.folder, readable=False)  # nothing could be there
            assert not look([told], limits)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_files_are_counted_of_kernels_that_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def counted(folder: Path, _: int) -> int:
        looked.append(folder)
        return 0

    monkeypatch.setattr("sandbox.watchdog.stored", counted)
    monkeypatch.setattr("sandbox.watchdog.POLL_S", 600)  # the pool's own does not look
    limits = Limits(spares=0)
    async with KernelPool(limits) as pool, pool.lease() as sandbox:
        look = FileLook()

        def again() -> bool:
            """Whether the files were counted at one more look."""
            looked.clear()
            assert not look([kernel.watched for kernel in pool._kernels], limits)
            return bool(looked)

        await sandbox.execute("1", 20)
        assert again()
        assert await until(lambda: not again(), 20)
        await sandbox.execute("1", 20)
        assert again()


async def test_earlier_cells_are_run_again() -> None:
    async with KernelPool(Limits(spares=1, replay_s=5)) as pool, pool.lease() as sandbox:
        await sandbox.execute("import math\nx = 7", 20)
        await sandbox.execute("1/0", 20)
        await sandbox.execute("def f(n): return n + x", 20)
        assert (await sandbox.execute(EXIT, 20)).state_lost
        result = await sandbox.execute("f(math.floor(2.5))", 20)
        assert (result.stdout, result.replayed, result.state_lost) == ("9\n", True, False)
        assert "earlier cells were run again" in for_model(result, Limits())
        assert not (await sandbox.execute("x", 20)).replayed


@pytest.mark.parametrize(
    "cell",
    ["open('f', 'w').write('x')", "import time; time.sleep(0.6)", "import os; os.mkdir('d')"],
)
async def test_cells_with_effects_or_of_length_are_not_run_again(cell: str) -> None:
    async with KernelPool(Limits(spares=1, replay_s=0.5)) as pool, pool.lease() as sandbox:
        await sandbox.execute("x = 7", 20)
        await sandbox.execute(cell, 20)
        assert (await sandbox.execute(EXIT, 20)).state_lost
        result = await sandbox.execute("x", 20)
        assert (result.error, result.replayed) == ("NameError", False)


async def test_cells_that_fail_the_second_time_are_given_up() -> None:
    async with KernelPool(Limits(spares=1, replay_s=5)) as pool, pool.lease() as sandbox:
        code = "import sys\nif 'again' in dir(): 1\nassert not sys.flags.dev_mode"
        await sandbox.execute(code, 20)
        await sandbox.execute("n = 1", 20)
        replays = sandbox._replay  # type: ignore[attr-defined]
        replays._cells.insert(0, "while True: pass")
        replays._cell_s = 0.2
        assert (await sandbox.execute(EXIT, 20)).state_lost
        result = await sandbox.execute("n", 20)
        assert (result.error, result.replayed) == ("NameError", False)
