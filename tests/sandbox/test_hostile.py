"""Every hostile cell: its outcome, what the model is told, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.hardening.tree import descendants
from sandbox.isolation import isolation
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.ports import Sandbox
from sandbox.result import for_model
from sandbox.zygote_launcher import ZygoteLauncher
from tests.sandbox.conftest import entries, until
from tests.sandbox.hostile import CASES, DIED, KILLED, LATER, Case

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
LIMITS = Limits(
    grace_s=1.0,
    memory_bytes=1 << 30,
    resident_bytes=1 << 30,
    folder_bytes=32 << 20,
    file_bytes=16 << 20,
    spares=2,
)
SECRET = "swordfish-1234"
GROWTH_BYTES = 64 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[KernelPool]:
    os.environ["API_TOKEN"] = SECRET
    async with KernelPool(LIMITS) as pool:
        yield pool
    del os.environ["API_TOKEN"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbour(pool: KernelPool) -> AsyncIterator[Sandbox]:
    """A trajectory that runs all the while, and is to notice nothing."""
    async with pool.lease() as sandbox:
        await sandbox.execute("n = 0", 60)
        yield sandbox


def running(pool: KernelPool) -> set[int]:
    """What the zygote started or inherited, other than the pool's kernels."""
    assert isinstance(pool._launcher, ZygoteLauncher)
    assert pool._launcher._zygote is not None
    kernels = {kernel.watched.pid for kernel in pool._kernels}
    return set(descendants([pool._launcher._zygote.pid])) - kernels


def memory(name: str) -> int:
    """Bytes of this process that /proc names so."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) << 10


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """This process may not grow by much meanwhile, not even for a moment."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM is the peak from here on
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < GROWTH_BYTES


def shared_memory() -> set[str]:
    """What kernels may have left in the machine's /dev/shm, which others use too: by its owner."""
    found = set()
    for name in entries(Path("/dev/shm")):
        with contextlib.suppress(FileNotFoundError):
            ours = Path("/dev/shm", name).lstat().st_uid == os.geteuid()
            if ours != ("uid" in isolation().layers):
                found.add(name)
    return found


async def counts(neighbour: Sandbox) -> None:
    before = await neighbour.execute("n += 1; n - 1", 60)
    after = await neighbour.execute("n", 60)
    assert (before.status, after.status) == ("ok", "ok"), (before, after)
    assert int(after.stdout) == int(before.stdout) + 1 >= 1


def filled(code: str, pool: KernelPool, problems: Path) -> str:
    """The cell, with what it names."""
    for name, value in {
        "solver": os.getpid(),
        "zygote": pool._launcher._zygote.pid,  # type: ignore[union-attr]
        "input": problems,
        "repository": ROOT,
        "kernel": pool._ready[0].watched.pid,
        "peer": pool._ready[0].watched.folder,
    }.items():
        code = code.replace(f"{{{name}}}", str(value))
    return code.replace("{{", "{").replace("}}", "}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_hostile(pool: KernelPool, neighbour: Sandbox, case: Case, tmp_path: Path) -> None:
    if case.needs == "shm" and not isolation().private_shm:
        pytest.skip("no /dev/shm of one's own is to be had here")
    if case.needs not in ("", "shm", *isolation().layers):
        pytest.skip(f"{case.needs} is not in force here: {isolation()}")
    others = "{solver}" in case.code or "{kernel}" in case.code
    if others and "kill" in case.code and not isolation().signals_stopped:
        pytest.skip("this Linux cannot stop signals between processes of one user")
    problems = tmp_path / "input.csv"
    problems.write_text("id,problem\n")
    shared = shared_memory()
    async with pool.lease() as sandbox:
        assert (await sandbox.execute("x = 7", 60)).status == "ok"
        assert await until(lambda: bool(pool._ready), 60)
        code = filled(case.code, pool, problems)
        with little_memory():
            attack = asyncio.create_task(sandbox.execute(code, case.timeout_s))
            await counts(neighbour)
            result = await attack
        assert result.status in case.ends, result
        assert result.model_dump_json()  # what was sent can be stored
        told = for_model(result, LIMITS)
        assert case.told in told
        assert SECRET not in told
        assert len(told.encode()) < LIMITS.output_bytes + 400
        lost = result.status in (KILLED, DIED)
        assert lost == result.state_lost
        after = await sandbox.execute("x", 60)
        assert after.error == "NameError" if lost else "7\n" in after.stdout, after
    await nothing_is_left(pool)
    await counts(neighbour)
    assert problems.read_text() == "id,problem\n"
    assert await until(lambda: shared_memory() <= shared, 20), shared_memory() - shared


@pytest.mark.parametrize("case", LATER, ids=lambda case: case.name)
async def test_hostile_between_cells(pool: KernelPool, neighbour: Sandbox, case: Case) -> None:
    with little_memory():
        async with pool.lease() as sandbox:
            assert (await sandbox.execute("x = 7", 60)).status == "ok"
            assert await until(lambda: bool(pool._ready), 60)
            code = filled(case.code, pool, Path())
            first = await sandbox.execute(code, 20)
            assert first.status in case.ends
            await asyncio.sleep(0.5)
            await counts(neighbour)
            then = await sandbox.execute("x", 60)
            assert first.state_lost or then.state_lost, (first, then)
            assert (await sandbox.execute("1 + 1", 60)).stdout == "2\n"
    await nothing_is_left(pool)


async def nothing_is_left(pool: KernelPool) -> None:
    assert await until(lambda: not pool._ends and not pool._starts, 60)
    assert await until(lambda: not running(pool), 20), running(pool)
    folder = pool._launcher.workspace.folder  # type: ignore[union-attr]
    kept = {kernel.watched.folder.name for kernel in pool._kernels}
    assert set(entries(folder)) == {"zygote.log", *kept}
