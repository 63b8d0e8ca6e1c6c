"""What the trajectories of one problem hold: a kernel from the first call on, and rows of cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
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

    async def release(self, trajectory: Trajectory) -> None:
        """Free the kernel and the cache of a trajectory; fine if it holds neither."""
        if lease := self._leases.pop(trajectory.index, None):
            await lease[1].aclose()
        await self._engine.release(trajectory.id)
