"""What a solve needs from outside, gathered in one value and handed down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sandbox.ports import SandboxPool
from solver.config import SolverConfig
from solver.dialects.base import Dialect
from solver.journal.events import Event
from solver.policy.confidence import mean_logprobs
from solver.policy.prune import Selection
from solver.ports import Clock, Engine, Scorer
from solver.solving.meter import Meter
from solver.solving.pressure import Pressure
from solver.solving.recording import Recording
from solver.types import Trajectory


@dataclass(frozen=True, slots=True)
class Services:
    """Engine, dialect, kernels, scorer, clock and the journal's `record`, for one run.

    `started_at` is the clock's reading when the command started, so that start-up counts.
    `selection` is what the check keeps: the best by `scorer`, or without a scorer a random choice or all.
    `recording` says what is played and scored besides what the answers need; `last_check` scores
    trajectories that end with an answer.
    `incidents` grows by one sentence whenever the engine lost something and went on.
    `stopping` is set by the first Ctrl-C: every problem then votes on what is there.
    `on_sampled` is told the number of tokens in each chunk that an engine samples, when it comes.
    `meter` measures what the engine's steps take. `pressure` is asked for room when the cache is full, and
    `promise` says at no cost how promising prefixes of any length are: higher is better.
    `concern` says why a prompt (ids) is outside what the model knows, or None.
    """

    config: SolverConfig
    engine: Engine
    dialect: Dialect
    sandboxes: SandboxPool
    scorer: Scorer | None
    selection: Selection
    clock: Clock
    record: Callable[[Event], None]
    started_at: float
    concern: Callable[[list[int]], Awaitable[str | None]]
    on_sampled: Callable[[int], None] = lambda _: None
    incidents: list[str] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)
    pressure: Pressure = field(default_factory=Pressure)
    promise: Callable[[Sequence[Trajectory]], Sequence[float]] = mean_logprobs
    recording: Recording = field(default_factory=Recording)
    last_check: Scorer | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def elapsed(self) -> float:
        """Seconds since the command started: the `t` of events."""
        return self.clock.now() - self.started_at
