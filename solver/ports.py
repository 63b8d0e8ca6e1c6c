"""The protocols of engine, scorer and clock; those of dialects and kernels are in their own packages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from solver.types import Chunk, SamplingParams, Trajectory


@dataclass(frozen=True, slots=True)
class EngineCapabilities:
    """What an engine can do: `context_length` in tokens a sequence, `vocab_size` in ids."""

    name: str
    model: str
    context_length: int
    vocab_size: int
    device: str
    dtype: str


class Engine(Protocol):
    """Samples tokens. Requests join and leave at any time; each has its own seed."""

    @property
    def capabilities(self) -> EngineCapabilities:
        """What this engine can do."""
        ...

    def generate(
        self, trajectory_id: str, token_ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        """Continue `token_ids`; closing the generator aborts within one step.

        The cache of `trajectory_id` is kept when the request ends, until `release`: a later request
        whose ids extend it encodes only what is new. Raises `EngineError`.
        """
        ...

    async def prompt_logprobs(self, token_ids: Sequence[int]) -> list[float]:
        """Log-probability (nats) of each id given those before it; length `len(token_ids) - 1`."""
        ...

    async def release(self, trajectory_id: str) -> None:
        """Forget the cache of a trajectory; unknown ids are fine."""
        ...

    async def aclose(self) -> None:
        """End every request with finish reason `abort` and free everything."""
        ...


@runtime_checkable
class Relieved(Protocol):
    """An engine that has somebody make room when its cache is full; the in-process one does."""

    def ask_when_full(self, relieve: Callable[[str], Awaitable[bool]]) -> None:
        """Have `relieve` release a trajectory for the one it is given, before a paused one loses its cache.

        Where it says False, the oldest pause is lost, and what it held is encoded again when it goes on.
        """
        ...


class Scorer(Protocol):
    """Judges prefixes at the mark: higher is better."""

    @property
    def name(self) -> str:
        """What the journal and the reports call this scorer."""
        ...

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One finite score for each trajectory, before `deadline` (clock seconds), or `ScorerError`."""
        ...


class Clock(Protocol):
    """The run's one monotonic clock, the same one the event loop keeps."""

    def now(self) -> float:
        """Seconds; only differences mean anything."""
        ...
