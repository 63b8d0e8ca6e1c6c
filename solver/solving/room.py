"""How many problems a session has under way, where each counts on a part of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction

from solver.types import ProblemBudget


class Room:
    """One engine. A problem that counts on being one of k at once takes a k-th, in the order of asking."""

    def __init__(self) -> None:
        self._free = Fraction(1)
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()

    @asynccontextmanager
    async def taken(self, budget: Callable[[], ProblemBudget]) -> AsyncGenerator[ProblemBudget]:
        """Wait until there is room for what `budget` says, and give it back at the end.

        It is asked anew whenever a problem has left: time has passed meanwhile.
        """
        async with self._turn:
            while (found := budget()).part > self._free:
                self._left.clear()
                await self._left.wait()
            self._free -= found.part
        try:
            yield found
        finally:
            self._free += found.part
            self._left.set()
