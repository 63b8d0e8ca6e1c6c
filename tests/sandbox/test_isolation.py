"""What a kernel sees, and that nothing it started outlives it or the solver."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from sandbox.pool import KernelPool
from sandbox.ports import Sandbox
from tests.sandbox.conftest import entries, mode, running, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
DAEMONS = """
import os, subprocess, sys, time
sleep = ['sleep', '300']
plain = subprocess.Popen(sleep)
session = subprocess.Popen(sleep, start_new_session=True)
if (child := os.fork()) == 0:
    os.setsid()
    if (daemon := os.fork()) == 0:
        os.execve('/bin/sleep', sleep, {})
    with open('daemon', 'w') as f:
        f.write(str(daemon))
    os._exit(0)
os.waitpid(child, 0)
print([os.getpid(), plain.pid, session.pid, int(open('daemon').read())])
"""


async def value(sandbox: Sandbox, code: str) -> object:
    result = await sandbox.execute(code, 20)
    assert result.status == "ok", result
    return ast.literal_eval(result.stdout)


async def test_no_secret_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "swordfish-1234")
    monkeypatch.setenv("PYTHONPATH", "/nonsense")
    async with KernelPool() as pool, pool.lease() as sandbox:
        seen = await value(sandbox, "import os; print(dict(os.environ))")
        initial = await value(sandbox, "print(open('/proc/self/environ').read().split(chr(0)))")
        assert isinstance(seen, dict)
        assert "swordfish" not in str(seen) + str(initial)
        assert "PYTHONPATH" not in seen
        assert seen["HOME"] == await value(sandbox, "os.getcwd()")
        assert seen["OMP_NUM_THREADS"] == "1"
        assert "site-packages/sandbox" not in str(
            await value(sandbox, "import sys; print(sys.path)")
        )


async def test_stdin_is_closed(sandbox: Sandbox) -> None:
    assert await value(sandbox, "import sys; sys.stdin.read()") == ""
    assert await value(sandbox, "import os; os.read(0, 1)") == b""


async def test_no_descriptor_of_ours_is_inherited(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        async with KernelPool() as pool, pool.lease() as sandbox:
            listing = "import os\nprint([os.readlink(f.path) for f in os.scandir('/proc/self/fd')"
            targets = await value(sandbox, listing + " if os.path.lexists(f.path)])")
    assert "secret" not in str(targets)


async def test_limits_are_in_force(sandbox: Sandbox) -> None:
    limits = "import resource as r\n[r.getrlimit(k)[1] for k in (r.RLIMIT_AS, r.RLIMIT_CORE)]"
    assert await value(sandbox, limits) == [1 << 30, 0]


async def test_cwd_is_private_and_removed(pool: KernelPool) -> None:
    async with pool.lease() as one, pool.lease() as other:
        first = Path(str(await value(one, "import os; os.getcwd()")))
        second = Path(str(await value(other, "import os; os.getcwd()")))
        assert first != second
        assert mode(first) == 0o700
        assert mode(first.parent) == 0o700
        assert mode(first.parent.parent) in (0o700, 0o711)  # nobody can list it
        assert await value(one, "os.listdir()") == []
        await one.execute("open('helper.py', 'w').write('def f(): return 5')", 5)
        assert await value(one, "import helper; helper.f()") == 5
        await one.execute("os.makedirs('a/b'); os.chmod('a/b', 0); os.chmod('a', 0)", 5)
    assert await until(lambda: not (entries(first.parent) or entries(second.parent)), 20)


async def test_history_leaves_no_file(sandbox: Sandbox) -> None:
    code = "import os\nprint([n for _, _, names in os.walk('..') for n in names])"
    files = await value(sandbox, code)
    assert isinstance(files, list)
    assert not any("history" in name for name in files)


async def test_children_end_with_the_lease(pool: KernelPool) -> None:
    async with pool.lease() as sandbox:
        pids = await value(sandbox, DAEMONS)
        assert isinstance(pids, list)
        assert all(map(running, pids))
    assert await until(lambda: not any(map(running, pids)), 20)


async def test_daemons_of_a_kernel_that_died_are_found(sandbox: Sandbox) -> None:
    pids = await value(sandbox, DAEMONS)
    assert isinstance(pids, list)
    await sandbox.execute("os._exit(0)", 5)
    assert await until(lambda: not any(map(running, pids)), 20)


SOLVER = """
import asyncio
from sandbox.pool import KernelPool

DAEMONS = {daemons!r}

async def main():
    async with KernelPool() as pool, pool.lease() as one, pool.lease() as other:
        first = await one.execute(DAEMONS, 30)
        second = await other.execute("import os; print(os.getpid(), os.getcwd())", 30)
        print(first.stdout.strip(), second.stdout.strip(), sep="|", flush=True)
        await other.execute("while True: pass", 60)

asyncio.run(main())
"""


def solver() -> tuple[subprocess.Popen[str], list[int], list[int], Path]:
    """A solver that runs cells: itself, its kernels, what these started, and the pool's folder."""
    code = textwrap.dedent(SOLVER).format(daemons=DAEMONS)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first, second = process.stdout.readline().split("|")
    kernel, *children = ast.literal_eval(first)
    pid, cwd = second.split()
    process.stdout.close()
    spares = [child.pid for child in psutil.Process(process.pid).children()]
    return process, [kernel, int(pid), *spares], children, Path(cwd).parent.parent


async def test_a_killed_solver_leaves_nothing() -> None:
    process, kernels, children, folder = await asyncio.to_thread(solver)
    try:
        assert all(map(running, kernels))
        process.kill()
        assert await until(lambda: not any(map(running, kernels + children)), 20)
        assert await until(lambda: not folder.exists(), 20)
    finally:
        process.wait()


async def test_a_terminated_solver_leaves_nothing() -> None:
    process, kernels, children, folder = await asyncio.to_thread(solver)
    process.terminate()
    assert await asyncio.to_thread(process.wait, 5) == -signal.SIGTERM
    assert await until(lambda: not any(map(running, kernels + children)), 20)
    assert not entries(folder)


CARELESS = """
import asyncio
from sandbox.pool import KernelPool

async def main():
    pool = await KernelPool().__aenter__()
    lease = pool.lease()
    sandbox = await lease.__aenter__()
    print((await sandbox.execute("import os; print(os.getpid(), os.getcwd())", 30)).stdout)
    return lease

loop = asyncio.new_event_loop()
lease = loop.run_until_complete(main())
"""


async def test_a_solver_that_closes_nothing_leaves_nothing() -> None:
    process = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", CARELESS], cwd=ROOT, capture_output=True, text=True
    )
    pid, cwd = process.stdout.split()
    assert await until(lambda: not running(int(pid)), 20)
    assert not entries(Path(cwd).parent)
