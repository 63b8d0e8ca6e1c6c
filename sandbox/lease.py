"""What one trajectory executes on: a kernel of its own, or the one that replaced it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sandbox.kernel import Kernel
from sandbox.limits import Limits
from sandbox.replay import Replay
from sandbox.result import ExecutionResult, ExecutionStatus, refusal


class KernelUnavailableError(Exception):
    """No kernel could be started."""


class Lease:
    """What one trajectory executes on: the kernel it has, or the next one."""

    def __init__(
        self,
        take: Callable[[], Awaitable[Kernel]],
        discard: Callable[[Kernel], None],
        limits: Limits,
    ) -> None:
        self._take = take
        self._discard = discard
        self._limits = limits
        self._replay = Replay(limits)
        self._fresh = False  # a kernel was lost, and the next one has run no cell yet
        self._kernel: Kernel | None = None
        self._untold = False  # a kernel was lost, and no result has said so
        self._busy = False
        self._closed = False

    async def execute(self, code: str, timeout_s: float) -> ExecutionResult:
        """Run one cell; see `sandbox.ports`."""
        if (refused := refusal(code, timeout_s, self._limits)) is not None:
            return refused
        if self._busy:
            reason = "another cell is still running"
            return ExecutionResult(status=ExecutionStatus.REFUSED, stderr=reason)
        self._busy = True
        try:
            return await self._execute(code, timeout_s)
        finally:
            self._busy = False

    def close(self) -> None:
        """Kill the kernel; a cell that runs ends as `died`."""
        self._closed = True
        self._drop()

    async def _execute(self, code: str, timeout_s: float) -> ExecutionResult:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(timeout_s):
                kernel = await self._obtain()
                replayed = await self._restore(kernel)
                if not kernel.alive:
                    kernel = await self._obtain()
        except (TimeoutError, KernelUnavailableError) as error:
            return ExecutionResult(
                status=ExecutionStatus.UNAVAILABLE,
                stderr=str(error) or "no kernel was ready in time",
                duration_s=loop.time() - started,
                timeout_s=timeout_s,
            )
        try:
            result = await kernel.execute(code, started + timeout_s - loop.time())
        except BaseException:  # cancelled; the kernel is killed
            self._drop()
            self._untold = self._fresh = True
            raise
        if result.status is ExecutionStatus.REFUSED:  # its time ran out meanwhile
            return result
        self._replay.note(code, result, kernel)
        lost = result.state_lost or (self._untold and not replayed)
        self._untold = False
        if result.state_lost:
            self._drop()
            self._fresh = True
        facts = {
            "state_lost": lost,
            "replayed": replayed,
            "duration_s": loop.time() - started,
            "timeout_s": timeout_s,
        }
        return result.model_copy(update=facts)

    async def _restore(self, kernel: Kernel) -> bool:
        """Run the earlier cells again in a kernel that replaces another; whether that succeeded."""
        if not self._fresh:
            return False
        self._fresh = False
        return await self._replay.into(kernel)

    async def _obtain(self) -> Kernel:
        if self._kernel is not None and not self._kernel.alive:  # it ended between two cells
            self._drop()
            self._untold = self._fresh = True
        if self._kernel is None and not self._closed:
            self._kernel = await self._take()
        if self._closed:
            self._drop()
        if self._kernel is None:
            raise KernelUnavailableError("the lease is over")
        return self._kernel

    def _drop(self) -> None:
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            self._discard(kernel)
