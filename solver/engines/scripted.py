"""An engine that plays a script: for tests of everything that stands on the `Engine` port.

What it samples, how fast, and where it fails are all given beforehand. Time passes on the event
loop's clock only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Self

from solver.engines.refusals import check_ids, check_request
from solver.errors import EngineError
from solver.ports import EngineCapabilities
from solver.types import Chunk, FinishReason, SamplingParams, TokenIds

Said = Sequence[int] | str
Script = Callable[[str, TokenIds], Said]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong in each request of a trajectory after `after` of its ids: hang, or `error`."""

    after: int = 0
    hang: bool = False
    error: Exception | None = None


@dataclass(slots=True)
class ScriptedStats:
    """Counters: ids given that were cached, ids given that were not, ids sampled, requests."""

    reused: int = 0
    prefilled: int = 0
    decoded: int = 0
    requests: int = 0


class ScriptedEngine:
    """Samples what its script says.

    The script is a function of (trajectory id, ids so far) that returns the ids to sample next, or
    a mapping from trajectory id to all the ids it ever samples: a later request goes on where the
    last one ended, until `release`. Text is allowed where `encode` turns it into ids. A request
    whose script runs out before a stop id or `max_tokens` raises `EngineError`.
    """

    def __init__(
        self,
        script: Script | Mapping[str, Said],
        *,
        encode: Callable[[str], Sequence[int]] | None = None,
        faults: Mapping[str, Fault] | None = None,
        logprobs: Mapping[str, float] | None = None,
        candidates: Mapping[str, tuple[float, float]] | None = None,
        delay_s: float = 0.0,
        context_length: int = 1 << 20,
        vocab_size: int = 1 << 20,
    ) -> None:
        """`delay_s` passes before each id; `logprobs` gives a trajectory's ids theirs (else -1).

        `candidates` gives them a confidence and an entropy (else none is told).
        """
        self.capabilities = EngineCapabilities(
            "scripted", "script", context_length, vocab_size, "none", "none"
        )
        self.stats = ScriptedStats()
        self.open_requests: set[str] = set()
        self.released: list[str] = []
        self._script, self._encode = script, encode
        self._faults, self._logprobs = faults or {}, logprobs or {}
        self._candidates = candidates or {}
        self._delay_s = delay_s
        self._cached: dict[str, list[int]] = {}
        self._said: dict[str, int] = {}  # ids sampled so far, for scripts that are mappings
        self._closing = asyncio.Event()

    def generate(
        self, trajectory_id: str, token_ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        """Sample the script, one id a chunk. Raises `EngineError` as the real engines do."""
        check_request(token_ids, params, self.capabilities.vocab_size)
        return self._generate(trajectory_id, list(token_ids), params)

    async def _generate(
        self, trajectory_id: str, ids: list[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        if self._closing.is_set():
            raise EngineError("the engine is closed")
        if len(ids) >= self.capabilities.context_length:
            yield Chunk((), (), FinishReason.LENGTH)
            return
        if trajectory_id in self.open_requests:
            raise EngineError(f"{trajectory_id} already has an open request")
        self.open_requests.add(trajectory_id)
        self.stats.requests += 1
        pairs = zip(self._cached.get(trajectory_id, ()), ids[:-1], strict=False)
        reused = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        counts = (reused, len(ids) - reused)
        self.stats.reused += counts[0]
        self.stats.prefilled += counts[1]
        last = min(len(ids) + params.max_tokens, self.capabilities.context_length)
        fault, start = self._faults.get(trajectory_id), len(ids)
        try:
            for token in self._continuation(trajectory_id, ids):
                if fault is not None and len(ids) - start == fault.after:
                    await self._strike(trajectory_id, fault)
                if await self._closes_within(self._delay_s):
                    break
                ids.append(token)
                self.stats.decoded += 1
                self._said[trajectory_id] = self._said.get(trajectory_id, 0) + 1
                finish = FinishReason.LENGTH if len(ids) >= last else None
                if token in params.stop_token_ids:
                    finish = FinishReason.STOP
                logprob = self._logprobs.get(trajectory_id, -1.0)
                told: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
                if trajectory_id in self._candidates:
                    confidence, entropy = self._candidates[trajectory_id]
                    told = (confidence,), (entropy,)
                yield Chunk((token,), (logprob,), finish, *counts, *told)
                if finish is not None:
                    return
                counts = (0, 0)
            if not self._closing.is_set():
                raise EngineError(f"the script of {trajectory_id} has no more ids")
            yield Chunk((), (), FinishReason.ABORT)
        finally:
            self._cached[trajectory_id] = ids[:-1]
            self.open_requests.discard(trajectory_id)

    def _continuation(self, trajectory_id: str, ids: list[int]) -> Sequence[int]:
        if callable(self._script):
            said, skipped = self._script(trajectory_id, tuple(ids)), 0
        else:
            said, skipped = self._script.get(trajectory_id, ()), self._said.get(trajectory_id, 0)
        if isinstance(said, str):
            if self._encode is None:
                raise EngineError("the script holds text, but the engine was given no `encode`")
            said = self._encode(said)
        return said[skipped:]

    async def _strike(self, trajectory_id: str, fault: Fault) -> None:
        if fault.hang:
            await self._closing.wait()
        else:
            raise fault.error or EngineError(f"scripted fault of {trajectory_id}")

    async def _closes_within(self, seconds: float) -> bool:
        """Let time pass; true if the engine closes meanwhile."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return self._closing.is_set()
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    async def prompt_logprobs(self, token_ids: Sequence[int]) -> list[float]:
        """-1 for every id but the first."""
        check_ids(token_ids, self.capabilities.vocab_size)
        return [-1.0] * (len(token_ids) - 1)

    async def release(self, trajectory_id: str) -> None:
        """Forget a trajectory's cache and its place in the script; `released` remembers it."""
        self.released.append(trajectory_id)
        self._cached.pop(trajectory_id, None)
        self._said.pop(trajectory_id, None)

    async def aclose(self) -> None:
        """End every request with finish reason `abort`."""
        self._closing.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
