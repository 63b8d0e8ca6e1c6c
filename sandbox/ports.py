"""What the solver needs of a sandbox. One contract suite runs on the fake and the real thing."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sandbox.result import ExecutionResult


class Sandbox(Protocol):
    """One stateful interpreter, leased to one trajectory."""

    async def execute(self, code: str, timeout_s: float) -> ExecutionResult:
        """Run one cell and say how it ended; whatever the code does is told in the result.

        `timeout_s` (wall seconds) bounds the whole call, waiting for a kernel included; the answer
        comes at most the grace of an interrupt plus one second later. One call at a time.
        Cancelling the call stops the code.
        """
        ...


class SandboxPool(Protocol):
    """Leases sandboxes."""

    @property
    def isolation(self) -> str:
        """The layers of isolation in force, in words."""
        ...

    def lease(self) -> AbstractAsyncContextManager[Sandbox]:
        """A sandbox of one's own: its process is fresh, and is never given to another lease.

        Entering is free (a process is taken at the first cell) and leaving does not wait.
        """
        ...

    def prepare(self, n: int) -> None:
        """Hint that `n` kernels will be wanted soon; returns at once."""
        ...
