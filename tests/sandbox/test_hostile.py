"""Every hostile cell: its outcome, what the model is told, and that nothing of it stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.hardening.tree import descendants
from sandbox.isolation import isolation
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.result import for_model
from sandbox.zygote_launcher import ZygoteLauncher
from tests.sandbox.conftest import until
from tests.sandbox.hostile import CASES, DIED, KILLED, Case

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
LIMITS = Limits(
    grace_s=0.6,
    memory_bytes=1 << 30,
    resident_bytes=1 << 30,
    folder_bytes=32 << 20,
    file_bytes=16 << 20,
    spares=2,
)
SECRET = "swordfish-1234"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[KernelPool]:
    os.environ["API_TOKEN"] = SECRET
    async with KernelPool(LIMITS) as pool:
        yield pool
    del os.environ["API_TOKEN"]


def running(pool: KernelPool) -> set[int]:
    """What the zygote started or inherited, other than the pool's kernels."""
    assert isinstance(pool._launcher, ZygoteLauncher)
    assert pool._launcher._zygote is not None
    kernels = {kernel.watched.pid for kernel in pool._kernels}
    return set(descendants([pool._launcher._zygote.pid])) - kernels


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_hostile(pool: KernelPool, case: Case, tmp_path: Path) -> None:
    if case.needs and case.needs not in isolation().layers:
        pytest.skip(f"{case.needs} is not in force here: {isolation()}")
    if "{solver}" in case.code and "kill" in case.code and not isolation().signals_stopped:
        pytest.skip("this Linux cannot stop signals between processes of one user")
    problems = tmp_path / "input.csv"
    problems.write_text("id,problem\n")
    async with pool.lease() as sandbox:
        assert (await sandbox.execute("x = 7", 20)).status == "ok"
        assert await until(lambda: bool(pool._ready), 20)
        code = case.code
        for name, value in {
            "solver": os.getpid(),
            "zygote": pool._launcher._zygote.pid,  # type: ignore[union-attr]
            "input": problems,
            "repository": ROOT,
            "peer": pool._ready[0].watched.folder,
        }.items():
            code = code.replace(f"{{{name}}}", str(value))
        code = code.replace("{{", "{").replace("}}", "}")
        result = await sandbox.execute(code, case.timeout_s)
        assert result.status in case.ends, result
        told = for_model(result, LIMITS)
        assert case.told in told
        assert SECRET not in told
        assert len(told.encode()) < LIMITS.output_bytes + 400
        lost = result.status in (KILLED, DIED)
        assert lost == result.state_lost
        after = await sandbox.execute("x", 20)
        assert after.error == "NameError" if lost else "7\n" in after.stdout, after
    assert problems.read_text() == "id,problem\n"
    assert await until(lambda: not pool._ends and not pool._starts, 20)
    assert await until(lambda: not running(pool), 3), running(pool)
