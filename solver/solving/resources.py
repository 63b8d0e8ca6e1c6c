"""What the trajectories of one problem hold: a kernel from the first call on, and rows of cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Self

from sandbox.ports import Sandbox, SandboxPool
from sandbox.result import ExecutionResult
from solver.ports import Engine
from solver.types import Trajectory


class TrajectoryResources:
    """Kernels by trajectory. Leaving the `async with` frees what any of `trajectories` still holds."""

    def __init__(
        self, pool: SandboxPool, engine: Engine, trajectories: Sequence[Trajectory]
    ) -> None:
        self._pool = pool
        self._engine = engine
        self._trajectories = trajectories
        self._leases: dict[int, tuple[Sandbox, AsyncExitStack]] = {}
        self._under_way: dict[int, tuple[asyncio.Timeout, asyncio.Event]] = {}
        self._ending: set[int] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for trajectory in self._trajectories:
            await self.release(trajectory)

    async def execute(self, trajectory: Trajectory, code: str, timeout_s: float) -> ExecutionResult:
        """Run `code` in the trajectory's own kernel for at most `timeout_s` seconds."""
        if trajectory.index not in self._leases:
            stack = AsyncExitStack()
            sandbox = await stack.enter_async_context(self._pool.lease())
            self._leases[trajectory.index] = (sandbox, stack)
        sandbox, _ = self._leases[trajectory.index]
        return await sandbox.execute(code, timeout_s)

    @contextmanager
    def under_way(self, trajectory: Trajectory, scope: asyncio.Timeout) -> Iterator[None]:
        """While inside, and until `ends`, `interrupt` ends `scope`; it waits for this to be left."""
        left = asyncio.Event()
        self._under_way[trajectory.index] = scope, left
        try:
            yield
        finally:
            del self._under_way[trajectory.index]
            self._ending.discard(trajectory.index)
            left.set()

    def ends(self, trajectory: Trajectory) -> None:
        """Say that one under way goes no further: what it holds is soon free, and `scope` is left."""
        self._ending.add(trajectory.index)

    async def one_has_ended(self) -> bool:
        """Wait until one of those that are ending has; False if none is."""
        if not self._ending:
            return False
        _, left = self._under_way[min(self._ending)]
        await left.wait()
        return True

    async def interrupt(self, trajectory: Trajectory) -> bool:
        """Have one that is under way, and not ending, stop where it is; False if it stands still already."""
        if trajectory.index not in self._under_way:
            return False
        scope, left = self._under_way[trajectory.index]
        scope.reschedule(asyncio.get_running_loop().time())
        await left.wait()  # in its own task, this is where it stops
        return True

    async def release(self, trajectory: Trajectory) -> None:
        """Free the kernel and the cache of a trajectory; fine if it holds neither."""
        if lease := self._leases.pop(trajectory.index, None):
            await lease[1].aclose()
        await self._engine.release(trajectory.id)
