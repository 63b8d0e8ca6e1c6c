"""Kernels for trajectories that continue another one's prefix: its calls are rerun or looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sandbox.ports import SandboxPool
from sandbox.result import ExecutionResult, ExecutionStatus
from solver.ports import Engine
from solver.solving.resources import TrajectoryResources
from solver.types import Trajectory

_LASTING = frozenset({ExecutionStatus.OK, ExecutionStatus.ERROR})


class RerunResources(TrajectoryResources):
    """Kernels for trajectories that begin with calls made by others.

    A kernel is taken at a trajectory's first own call and runs the earlier ones first. With
    `share_calls` the result of a call is looked up among equal calls after equal calls.
    """

    def __init__(
        self,
        pool: SandboxPool,
        engine: Engine,
        trajectories: Sequence[Trajectory],
        *,
        share_calls: bool,
    ) -> None:
        super().__init__(pool, engine, trajectories)
        self._share = share_calls
        self._ran: dict[int, int] = {}  # cells that a trajectory's kernel has run
        self._known: dict[tuple[str, ...], asyncio.Future[ExecutionResult | None]] = {}

    async def execute(self, trajectory: Trajectory, code: str, timeout_s: float) -> ExecutionResult:
        """Run `code` after what came before it in the trajectory."""
        earlier = [turn.tool_call or "" for turn in trajectory.turns if turn.execution is not None]
        cells = (*earlier, code)
        if self._share and (known := self._known.get(cells)) is not None:
            result = await asyncio.shield(known)
            if result is not None:
                return result
        if not self._share or cells in self._known:
            return await self._run(trajectory, cells, timeout_s)
        answer: asyncio.Future[ExecutionResult | None]
        answer = self._known[cells] = asyncio.get_running_loop().create_future()
        result = None
        try:
            result = await self._run(trajectory, cells, timeout_s)
            return result
        finally:
            # None: a timeout or a lost kernel is not shared; the other trajectories run the call.
            lasting = result is not None and result.status in _LASTING
            answer.set_result(result if lasting else None)

    async def _run(
        self, trajectory: Trajectory, cells: Sequence[str], timeout_s: float
    ) -> ExecutionResult:
        *missing, code = cells[self._ran.get(trajectory.index, 0) :]
        for cell in missing:
            await super().execute(trajectory, cell, timeout_s)
        self._ran[trajectory.index] = len(cells)
        return await super().execute(trajectory, code, timeout_s)
