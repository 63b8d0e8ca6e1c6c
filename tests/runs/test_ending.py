"""A process whose time is up ends: nobody is waited for, and what kernels run ends with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from solver.runs.run import _stop_on_signals

WAITS = """
import threading
from solver.clock import MonotonicClock
from solver.runs.ending import end_at

print("written", end="")
end_at(MonotonicClock().now() + 0.2, 7)
threading.Event().wait()
"""
WITH_KERNELS = """
import asyncio
from pathlib import Path
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from solver.runs.ending import end_now

async def main():
    async with KernelPool(Limits(spares=1)) as pool:
        async with pool.lease() as sandbox:
            result = await sandbox.execute("import os; print(os.getpid(), os.getcwd())", 60)
            print(result.stdout, flush=True)
            end_now(3)

asyncio.run(main())
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_process_ends_at_its_time_with_its_code_and_its_output() -> None:
    ended = run(WAITS)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "written", "")


@pytest.mark.skipif(sys.platform != "linux", reason="without a zygote nothing outlives the solver")
def test_kernels_end_with_it_and_leave_nothing() -> None:
    ended = run(WITH_KERNELS)
    assert ended.returncode == 3
    pid, folder = ended.stdout.split()
    for _ in range(600):
        if not psutil.pid_exists(int(pid)) and not Path(folder).parents[1].exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{pid} or {folder} is still there")


async def test_a_signal_after_the_answers_are_written_ends_at_once_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the report is written: nobody votes any more."""
    codes: list[int] = []
    said: list[str] = []
    monkeypatch.setattr("solver.runs.run.end_now", codes.append)
    stopping = asyncio.Event()
    with _stop_on_signals(stopping, said.append) as end_on_signals:
        end_on_signals(0)
        os.kill(os.getpid(), signal.SIGINT)
        while not codes:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert (codes, said, stopping.is_set()) == ([0], [], False)
    assert capsys.readouterr().err == "ended: the answers are written, the report may not be\n"
