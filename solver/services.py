"""What a solve needs from outside, gathered in one value and handed down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sandbox.ports import SandboxPool
from solver.config import SolverConfig
from solver.dialects.base import Dialect
from solver.events import Event
from solver.ports import Clock, Engine, Scorer


@dataclass(frozen=True, slots=True)
class Services:
    """Engine, dialect, kernels, scorer, clock and the journal's `record`, for one run.

    `started_at` is the clock's reading when the command started, so that start-up counts.
    `recorded_scorers` are asked besides `scorer` when everything is recorded.
    `incidents` grows by one sentence whenever the engine lost something and went on.
    `stopping` is set by the first Ctrl-C: every problem then votes on what is there.
    `concern` says why a prompt (ids) is outside what the model knows, or None.
    """

    config: SolverConfig
    engine: Engine
    dialect: Dialect
    sandboxes: SandboxPool
    scorer: Scorer | None
    clock: Clock
    record: Callable[[Event], None]
    started_at: float
    concern: Callable[[list[int]], Awaitable[str | None]]
    incidents: list[str] = field(default_factory=list)
    recorded_scorers: tuple[Scorer, ...] = ()
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def elapsed(self) -> float:
        """Seconds since the command started: the `t` of events."""
        return self.clock.now() - self.started_at
