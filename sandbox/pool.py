"""Leases kernels: each process serves one lease, a few are kept ready, all of them end with the pool."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any

from sandbox.kernel import Kernel
from sandbox.launcher import ColdLauncher, Launcher
from sandbox.limits import Limits
from sandbox.ports import Sandbox
from sandbox.result import ExecutionResult, ExecutionStatus, refusal

log = logging.getLogger(__name__)

ATTEMPTS = 2  # times that a kernel is started before it counts as not to be had


class KernelUnavailableError(Exception):
    """No kernel could be started."""


class KernelPool:
    """Real Jupyter kernels, owned from `async with` to its end; see `sandbox.ports`.

    `launcher` starts the processes and is closed with the pool; by default each starts cold.
    """

    def __init__(self, limits: Limits | None = None, launcher: Launcher | None = None) -> None:
        self._limits = limits or Limits()
        self._given_launcher = launcher
        self._launcher: Launcher | None = None
        self._ready: deque[Kernel] = deque()
        self._waiters: deque[asyncio.Future[Kernel]] = deque()
        self._kernels: set[Kernel] = set()  # every one whose process may still run
        self._starts: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(self._limits.start_concurrency)
        self._starting = 0  # starts that have no kernel yet
        self._wanted = 0  # kernels hinted at and not taken yet

    @property
    def isolation(self) -> str:
        """The layers of isolation in force, in words."""
        return (self._launcher or self._given_launcher or ColdLauncher).isolation

    async def __aenter__(self) -> KernelPool:
        self._launcher = self._given_launcher or ColdLauncher(self._limits)
        log.info("sandbox isolation: %s", self.isolation)
        self._fill()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    def lease(self) -> AbstractAsyncContextManager[Sandbox]:
        """A sandbox of one's own; leaving it kills its process and waits for nothing."""
        return self._lease()

    def prepare(self, n: int) -> None:
        """Have `n` kernels ready soon, for the next `n` leases that run code."""
        self._wanted = max(0, n)
        self._fill()

    async def aclose(self) -> None:
        """Kill every process at once and free everything; finishes even when cancelled."""
        closing = asyncio.ensure_future(self._close())
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as error:
                cancelled = error
        closing.result()
        if cancelled is not None:
            raise cancelled

    async def take(self) -> Kernel:
        """A fresh kernel, for its one lease. Raises `KernelUnavailableError`."""
        if self._launcher is None:
            raise KernelUnavailableError("the pool is closed")
        self._wanted = max(0, self._wanted - 1)
        while self._ready:
            kernel = self._ready.popleft()
            if kernel.alive:
                self._fill()
                return kernel
            self.discard(kernel)
        waiter: asyncio.Future[Kernel] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._fill()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._offer(waiter.result())  # it came too late for us, and is unused
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def discard(self, kernel: Kernel) -> None:
        """Kill a kernel now and clean up after it in the background."""
        kernel.kill()
        if kernel in self._kernels:
            self._kernels.discard(kernel)
            self._spawn(self._ends, kernel.aclose())

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[Sandbox]:
        lease = _Lease(self, self._limits)
        try:
            yield lease
        finally:
            lease.close()

    def _fill(self) -> None:
        """Start as many kernels as are awaited and to be kept ready, less those on their way."""
        if self._launcher is None:
            return
        spares = max(self._limits.spares, self._wanted)
        missing = len(self._waiters) + spares - len(self._ready) - self._starting
        for _ in range(missing):
            self._starting += 1
            self._spawn(self._starts, self._start(self._launcher))

    async def _start(self, launcher: Launcher) -> None:
        answer: Kernel | KernelUnavailableError | None = None
        try:
            async with self._slots:
                for _ in range(ATTEMPTS):
                    answer = await self._launch(launcher)
                    if isinstance(answer, Kernel):
                        break
        finally:
            self._starting -= 1
        if isinstance(answer, Kernel):
            self._offer(answer)
        elif answer is not None and len(self._waiters) > self._starting:
            self._answer(answer)  # else those still on their way may serve who waits

    async def _launch(self, launcher: Launcher) -> Kernel | KernelUnavailableError:
        try:
            kernel = Kernel(await launcher.launch(), self._limits)
            self._kernels.add(kernel)
            try:
                await kernel.wait_ready()
            except BaseException:
                self.discard(kernel)
                raise
            return kernel
        except Exception as error:  # whatever it was, the solver goes on without this kernel
            log.warning("a kernel did not start", exc_info=error)
            return KernelUnavailableError(str(error) or type(error).__name__)

    def _offer(self, kernel: Kernel) -> None:
        if not self._answer(kernel):
            self._ready.append(kernel)

    def _answer(self, answer: Kernel | KernelUnavailableError) -> bool:
        """Give the answer to who waits longest; whether there was anyone."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                if isinstance(answer, Kernel):
                    waiter.set_result(answer)
                else:
                    waiter.set_exception(answer)
                return True
        return False

    def _spawn(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a task of the kernel pool failed", exc_info=error)

        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        tasks.add(task)
        task.add_done_callback(done)

    async def _close(self) -> None:
        launcher, self._launcher = self._launcher, None
        while self._answer(KernelUnavailableError("the pool is closed")):
            pass
        self._ready.clear()
        for kernel in list(self._kernels):
            self.discard(kernel)
        for start in self._starts:
            start.cancel()
        while tasks := self._starts | self._ends:  # a cancelled start may leave one more end
            await asyncio.gather(*tasks, return_exceptions=True)
        self._starting = 0
        if launcher is not None:
            await launcher.aclose()


class _Lease:
    """What one trajectory executes on: the kernel it has, or the next one."""

    def __init__(self, pool: KernelPool, limits: Limits) -> None:
        self._pool = pool
        self._limits = limits
        self._kernel: Kernel | None = None
        self._untold = False  # a kernel was lost, and no result has said so
        self._busy = False
        self._closed = False

    async def execute(self, code: str, timeout_s: float) -> ExecutionResult:
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
            self._untold = True
            raise
        if result.status is ExecutionStatus.REFUSED:  # its time ran out meanwhile
            return result
        lost = result.state_lost or self._untold
        self._untold = False
        if result.state_lost:
            self._drop()
        took = loop.time() - started
        return result.model_copy(
            update={"state_lost": lost, "duration_s": took, "timeout_s": timeout_s}
        )

    async def _obtain(self) -> Kernel:
        if self._kernel is not None and not self._kernel.alive:  # it ended between two cells
            self._drop()
            self._untold = True
        if self._kernel is None and not self._closed:
            self._kernel = await self._pool.take()
        if self._closed:
            self._drop()
        if self._kernel is None:
            raise KernelUnavailableError("the lease is over")
        return self._kernel

    def _drop(self) -> None:
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            self._pool.discard(kernel)
