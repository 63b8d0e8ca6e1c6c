"""A fake pool for tests of the solver: results by a function of the code, delays, faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType

from sandbox.limits import Limits
from sandbox.ports import Sandbox
from sandbox.result import ExecutionResult, ExecutionStatus, refusal

LOSSES = (ExecutionStatus.KILLED, ExecutionStatus.DIED)


@dataclass(frozen=True, slots=True)
class Step:
    """A scripted outcome after `delay_s` seconds; one that is due too late becomes a timeout."""

    result: ExecutionResult
    delay_s: float = 0.0


Script = Callable[[str], str | ExecutionResult | Step]


class ScriptedPool:
    """Looks like a `KernelPool`; what `script` says of a cell comes true.

    A string is what the cell printed. An exception that the script raises comes out of `execute`:
    a fault that the real pool must never show. `executed` lists (number of the lease, code),
    `prepared` the hints, `open_leases` counts the leases held.
    """

    isolation = "none (scripted)"

    def __init__(self, script: Script, limits: Limits | None = None) -> None:
        self.script = script
        self.limits = limits or Limits()
        self.executed: list[tuple[int, str]] = []
        self.prepared: list[int] = []
        self.leases = 0
        self.open_leases = 0

    async def __aenter__(self) -> ScriptedPool:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        pass

    def lease(self) -> AbstractAsyncContextManager[Sandbox]:
        """A sandbox that follows the script."""
        return self._lease()

    def prepare(self, n: int) -> None:
        """Note the hint."""
        self.prepared.append(n)

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[Sandbox]:
        self.leases += 1
        self.open_leases += 1
        try:
            yield _ScriptedSandbox(self, self.leases)
        finally:
            self.open_leases -= 1


class _ScriptedSandbox:
    def __init__(self, pool: ScriptedPool, number: int) -> None:
        self._pool = pool
        self._number = number

    async def execute(self, code: str, timeout_s: float) -> ExecutionResult:
        if (refused := refusal(code, timeout_s, self._pool.limits)) is not None:
            return refused
        self._pool.executed.append((self._number, code))
        outcome = self._pool.script(code)
        if isinstance(outcome, str):
            outcome = ExecutionResult(status=ExecutionStatus.OK, stdout=outcome)
        step = outcome if isinstance(outcome, Step) else Step(outcome)
        await asyncio.sleep(min(step.delay_s, timeout_s))
        status = step.result.status
        if step.delay_s > timeout_s and status not in LOSSES:
            status = ExecutionStatus.TIMEOUT
        return step.result.model_copy(
            update={
                "status": status,
                "state_lost": step.result.state_lost or status in LOSSES,
                "duration_s": step.result.duration_s or min(step.delay_s, timeout_s),
                "timeout_s": timeout_s,
            }
        )
