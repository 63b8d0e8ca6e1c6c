"""Cells that do not end by themselves, and kernels that end without being asked."""

from __future__ import annotations

import asyncio
import time

import psutil
import pytest

from sandbox.pool import KernelPool
from sandbox.ports import Sandbox
from sandbox.result import ExecutionStatus
from tests.sandbox.conftest import running, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PID = "import os; print(os.getpid())"


async def pid_of(sandbox: Sandbox) -> int:
    return int((await sandbox.execute(PID, 20)).stdout)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import subprocess; subprocess.run(['sleep', '60'])",
        "while True:\n    print('tick', flush=True); time.sleep(0.05)",
        "pow(3, 10**9)",
        "class A:\n    def __repr__(self):\n        while True: pass\nA()",
    ],
)
async def test_interrupted_at_the_deadline_with_its_state(sandbox: Sandbox, code: str) -> None:
    await sandbox.execute("import time\nx = 7", 20)
    before = time.monotonic()
    result = await sandbox.execute(code, 0.5)
    assert result.status is ExecutionStatus.TIMEOUT
    assert time.monotonic() - before >= 0.5
    assert not result.state_lost
    assert (await sandbox.execute("x", 10)).stdout == "7\n"


async def test_a_loop_that_prints_is_stopped_by_the_absolute_deadline(sandbox: Sandbox) -> None:
    await sandbox.execute("import time", 20)
    code = "for i in range(10**9):\n    print(i, flush=True); time.sleep(0.01)"
    result = await sandbox.execute(code, 0.6)
    assert result.status is ExecutionStatus.TIMEOUT
    assert result.stdout.startswith("0\n1\n2\n")


@pytest.mark.parametrize(
    "code",
    [
        "import time\nwhile True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        "print('on', flush=True)\nsum(range(10**15))",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    ],
)
async def test_killed_when_it_does_not_yield(sandbox: Sandbox, code: str) -> None:
    pid = await pid_of(sandbox)
    result = await sandbox.execute("x = 7\n" + code, 0.5)
    assert result.status is ExecutionStatus.KILLED
    assert result.state_lost
    assert await until(lambda: not running(pid), 20)
    after = await sandbox.execute("x", 20)
    assert (after.error, after.state_lost) == ("NameError", False)


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(3)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import ctypes; ctypes.string_at(0)",
        "exit()",
    ],
)
async def test_a_death_is_noticed(sandbox: Sandbox, code: str) -> None:
    pid = await pid_of(sandbox)
    first = "import time\nprint('before', flush=True)\ntime.sleep(0.2)\n"  # it is on its way then
    result = await sandbox.execute(first + code, 20)
    assert result.status is ExecutionStatus.DIED
    assert result.stdout == "before\n"
    assert result.state_lost
    assert await pid_of(sandbox) != pid


async def test_a_death_between_cells_is_told_by_the_next(
    pool: KernelPool, sandbox: Sandbox
) -> None:
    pid = await pid_of(sandbox)
    kernel = next(kernel for kernel in pool._kernels if kernel.watched.pid == pid)
    psutil.Process(pid).kill()
    assert await until(lambda: not kernel.alive, 20)
    result = await sandbox.execute("1 + 1", 20)
    assert (result.status, result.stdout) == (ExecutionStatus.OK, "2\n")
    assert result.state_lost
    assert not (await sandbox.execute("1 + 1", 20)).state_lost


async def test_cancelling_a_cell_leaves_no_process(sandbox: Sandbox) -> None:
    pid = await pid_of(sandbox)
    cell = asyncio.create_task(sandbox.execute("while True: pass", 60))
    await asyncio.sleep(0.2)
    cell.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cell
    assert await until(lambda: not running(pid), 20)
    assert (await sandbox.execute("1", 20)).state_lost


async def test_leaving_a_lease_ends_its_running_cell(pool: KernelPool) -> None:
    async with pool.lease() as sandbox:
        pid = await pid_of(sandbox)
        cell = asyncio.create_task(sandbox.execute("while True: pass", 60))
        await asyncio.sleep(0.2)
    assert (await cell).status is ExecutionStatus.DIED
    assert await until(lambda: not running(pid), 20)
    assert (await sandbox.execute("1", 5)).status is ExecutionStatus.UNAVAILABLE


async def test_one_cell_at_a_time(sandbox: Sandbox) -> None:
    first = asyncio.create_task(sandbox.execute("import time; time.sleep(0.5); 1", 20))
    await asyncio.sleep(0)
    assert (await sandbox.execute("2", 20)).status is ExecutionStatus.REFUSED
    assert (await first).stdout == "1\n"


@pytest.mark.parametrize(
    "code",
    [
        # Forges the end of the cell on iopub, by the kernel's own session.
        "k = get_ipython().kernel\nk._publish_status('idle', 'shell')\nimport time; time.sleep(0.4)",
        # Sends what is not a message at all.
        "get_ipython().kernel.iopub_thread.socket.send_multipart([b'x', b'<IDS|MSG>', b'y'])",
        # Content of wrong types.
        "k = get_ipython().kernel\nfor c in ({'text': 1}, {'data': []}, {'traceback': 3}):\n"
        "    for kind in ('stream', 'execute_result', 'error'):\n"
        "        k.session.send(k.iopub_socket, kind, c, parent=k.get_parent())",
    ],
)
async def test_forged_messages_do_not_mislead(sandbox: Sandbox, code: str) -> None:
    result = await sandbox.execute(f"{code}\nprint('real')", 5)
    assert result.status is ExecutionStatus.OK
    assert result.stdout in ("real\n", "")  # after a forged idle the output may come too late
    assert (await sandbox.execute("1 + 1", 5)).stdout == "2\n"
