"""What every sandbox promises the solver, on the fake and on real kernels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.launcher import ColdLauncher
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.ports import Sandbox, SandboxPool
from sandbox.result import ExecutionResult, ExecutionStatus
from sandbox.scripted import ScriptedPool, Step
from sandbox.zygote_launcher import default_launcher

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = Limits(grace_s=0.6, spares=1)
SLEEP = "import time; print('on', flush=True); time.sleep(60)"
EXIT = "import os; os._exit(1)"


def script(code: str) -> str | ExecutionResult | Step:
    if code == "1/0":
        return ExecutionResult(
            status=ExecutionStatus.ERROR,
            stderr="ZeroDivisionError: division by zero",
            error="ZeroDivisionError",
        )
    if code == SLEEP:
        return Step(ExecutionResult(status=ExecutionStatus.OK, stdout="on\n"), delay_s=60)
    if code == EXIT:
        return ExecutionResult(status=ExecutionStatus.DIED)
    return "2\n" if code == "1 + 1" else ""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["zygote", "cold", "scripted"])
async def any_pool(request: pytest.FixtureRequest) -> AsyncIterator[SandboxPool]:
    made: KernelPool | ScriptedPool = ScriptedPool(script, LIMITS)
    if request.param != "scripted":
        kind = default_launcher if request.param == "zygote" else ColdLauncher
        made = KernelPool(LIMITS, kind(LIMITS))
    async with made as pool:
        yield pool


@pytest_asyncio.fixture(loop_scope="module")
async def leased(any_pool: SandboxPool) -> AsyncIterator[Sandbox]:
    async with any_pool.lease() as sandbox:
        yield sandbox


async def test_says_what_was_printed_or_displayed(leased: Sandbox) -> None:
    result = await leased.execute("1 + 1", 20)
    assert result.status is ExecutionStatus.OK
    assert result.stdout == "2\n"
    assert not result.state_lost
    assert result.timeout_s == 20


async def test_an_error_is_a_result(leased: Sandbox) -> None:
    result = await leased.execute("1/0", 20)
    assert result.status is ExecutionStatus.ERROR
    assert result.error == "ZeroDivisionError"
    assert "ZeroDivisionError: division by zero" in result.stderr
    assert not result.state_lost


async def test_a_timeout_keeps_the_output(leased: Sandbox) -> None:
    await leased.execute("1 + 1", 20)  # the start of a kernel is not what this is about
    result = await leased.execute(SLEEP, 0.7)
    assert result.status is ExecutionStatus.TIMEOUT
    assert result.stdout == "on\n"
    assert result.timeout_s == 0.7
    assert (await leased.execute("1 + 1", 20)).stdout == "2\n"


async def test_a_loss_is_told_once(leased: Sandbox) -> None:
    lost = await leased.execute(EXIT, 20)
    assert (lost.status, lost.state_lost) == (ExecutionStatus.DIED, True)
    after = await leased.execute("1 + 1", 20)
    assert (after.stdout, after.state_lost) == ("2\n", False)


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan")])
async def test_no_time_means_not_run(leased: Sandbox, timeout_s: float) -> None:
    assert (await leased.execute("1 + 1", timeout_s)).status is ExecutionStatus.REFUSED


@pytest.mark.parametrize("code", ["#" * (LIMITS.code_bytes + 1), "print('\ud800')"])
async def test_code_that_cannot_be_run_is_refused(leased: Sandbox, code: str) -> None:
    result = await leased.execute(code, 5)
    assert result.status is ExecutionStatus.REFUSED
    assert result.stderr


async def test_cancelling_stops_waiting(any_pool: SandboxPool) -> None:
    async with any_pool.lease() as sandbox:
        await sandbox.execute("1 + 1", 20)
        cell = asyncio.create_task(sandbox.execute(SLEEP, 30))
        await asyncio.sleep(0.3)
        cell.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cell


async def test_hints_and_isolation(any_pool: SandboxPool) -> None:
    any_pool.prepare(1)
    assert any_pool.isolation


async def test_the_fake_keeps_count() -> None:
    pool = ScriptedPool(script)
    async with pool.lease() as first, pool.lease() as second:
        await second.execute("1 + 1", 1)
        await first.execute("1/0", 1)
        assert pool.open_leases == 2
    pool.prepare(3)
    assert pool.executed == [(2, "1 + 1"), (1, "1/0")]
    assert (pool.leases, pool.open_leases, pool.prepared) == (2, 0, [3])


async def test_the_fake_can_fail() -> None:
    def broken(code: str) -> str:
        raise ConnectionError(code)

    async with ScriptedPool(broken).lease() as sandbox:
        with pytest.raises(ConnectionError):
            await sandbox.execute("x", 1)
