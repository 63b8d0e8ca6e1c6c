"""The cells that bring a replaced kernel back to where it was, while that is cheap and has no effects."""

from __future__ import annotations

from sandbox.kernel import Kernel
from sandbox.limits import Limits
from sandbox.result import ExecutionResult, ExecutionStatus


class Replay:
    """Remembers the cells that succeeded, until they took too long together or left a file."""

    def __init__(self, limits: Limits) -> None:
        self._left_s = self._cell_s = limits.replay_s
        self._cells: list[str] = []

    def note(self, code: str, result: ExecutionResult, kernel: Kernel) -> None:
        """Remember a cell that was run on `kernel`."""
        if self._left_s <= 0 or result.status is not ExecutionStatus.OK:
            return
        self._left_s -= result.duration_s
        self._cells.append(code)
        if self._left_s <= 0 or kernel.keeps_files:
            self._forget()

    async def into(self, kernel: Kernel) -> bool:
        """Run the remembered cells in a fresh kernel; whether there were any and all succeeded."""
        cells = list(self._cells)
        for code in cells:
            result = await kernel.execute(code, self._cell_s)
            if result.status is not ExecutionStatus.OK:
                self._forget()
                return False
        return bool(cells)

    def _forget(self) -> None:
        self._left_s = 0
        self._cells.clear()
