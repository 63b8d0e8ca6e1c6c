"""Leases kernels: each process serves one lease, a few are kept ready, all of them end with the pool."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any

from sandbox.isolation import isolation
from sandbox.kernel import Kernel
from sandbox.launcher import Launcher, NoLauncher
from sandbox.lease import KernelUnavailableError, Lease
from sandbox.limits import Limits
from sandbox.ports import Sandbox
from sandbox.watchdog import Watchdog, Watched
from sandbox.zygote_launcher import default_launcher

log = logging.getLogger(__name__)

ATTEMPTS = 2  # times that a kernel is started before it counts as not to be had


class KernelPool:
    """Real Jupyter kernels, owned from `async with` to its end; see `sandbox.ports`.

    `launcher` starts the processes and is closed with the pool; by default they are forks of a
    warmed zygote, or start cold where there can be none. Entering raises `IsolationError` when a
    layer that `limits.require` names does not hold here.
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
        self._watchdog: Watchdog | None = None

    @property
    def isolation(self) -> str:
        """The layers of isolation in force, in words."""
        launcher = self._launcher or self._given_launcher
        return str(isolation()) if launcher is None else launcher.isolation

    async def __aenter__(self) -> KernelPool:
        (await asyncio.to_thread(isolation)).require(self._limits.require)
        self._launcher = self._given_launcher or _launcher(self._limits)
        log.info("sandbox isolation: %s", self.isolation)
        loop = asyncio.get_running_loop()

        def found(reasons: dict[Watched, str]) -> None:
            loop.call_soon_threadsafe(self._stop, reasons)

        self._watchdog = Watchdog(
            lambda: [kernel.watched for kernel in tuple(self._kernels)],
            found,
            self._limits,
        )
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
        lease = Lease(self.take, self.discard, self._limits)
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

    def _stop(self, found: dict[Watched, str]) -> None:
        for kernel in tuple(self._kernels):
            if kernel.alive and (reason := found.get(kernel.watched)):
                log.warning("stopped a kernel: %s", reason)
                kernel.stop(reason)

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
        watchdog, self._watchdog = self._watchdog, None
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
        if watchdog is not None:
            await asyncio.to_thread(watchdog.stop)
        if launcher is not None:
            await launcher.aclose()


def _launcher(limits: Limits) -> Launcher:
    """The one for this machine, or, on a full disk, one that says why no kernel can be had."""
    try:
        return default_launcher(limits)
    except OSError as error:
        log.warning("no kernels: %s", error)
        return NoLauncher(error)
