"""Internal, learned (kind IV): STOP. The engine reads [STOP] behind each cached prefix, the head scores.

The [STOP] positions run in scratch rows of the engine, so scoring changes no cache, and the adapter is
gated by token id, so it changes no sampled token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from solver.errors import ConfigError, ModelError, ScorerError
from solver.stop.adapter import load_adapter
from solver.stop.combine import Combiner, combine, confidence_statistics
from solver.stop.gate import StopGate
from solver.stop.spec import StopSpec
from solver.types import Trajectory

# Logits that another machine's arithmetic may move a stored score by.
_TOLERANCE = {"float32": 1e-2, "bfloat16": 0.5}


class StopScorer:
    """The logit of "ends right" of each prefix; with a combiner, the logit of stop+confidence.

    One adapter sits on a model at a time: close one scorer before the next is opened. A second scorer
    on the same gate shares the adapter.
    """

    def __init__(
        self, engine: Any, gate: StopGate, spec: StopSpec, combiner: Combiner | None = None
    ) -> None:
        """`engine` is a `TransformersEngine` (or has its `probe`); `gate` is attached to its model."""
        self.name = "stop" if combiner is None else "stop+confidence"
        self.spec = spec
        self._engine, self._gate, self._combiner = engine, gate, combiner

    @classmethod
    async def open(
        cls,
        engine: Any,
        folder: Path,
        model_folder: Path,
        *,
        mark: int | None,
        dialect: str,
        prompt: str,
        with_confidence: bool = False,
    ) -> Self:
        """Load the adapter in `folder`, check it against model, mark and prompt, and attach it.

        Raises `ModelError` or `ConfigError` with one line that says what differs; it also scores
        the prefix that is stored with the adapter and compares.
        """
        loaded = load_adapter(folder, model_folder, mark=mark, dialect=dialect)
        spec = loaded.spec
        if spec.prompt != prompt:
            raise ConfigError(
                f"the adapter {folder} was trained on prompt {spec.prompt}, this run uses {prompt}"
            )
        if with_confidence and spec.combiner is None:
            raise ModelError(
                f"the adapter {folder} has no stop+confidence combiner: train it on examples with"
                " logprobs, or use the scorer stop"
            )
        gate = StopGate.attach(engine.model, loaded.adapter)
        scorer = cls(engine, gate, spec, spec.combiner if with_confidence else None)
        try:
            await scorer._shake_hands(folder)
        except BaseException:
            gate.detach()
            raise
        return scorer

    def with_combiner(self) -> StopScorer:
        """stop+confidence over the same attached adapter. The adapter must have a combiner."""
        assert self.spec.combiner is not None, "ask spec.combiner first"
        return StopScorer(self._engine, self._gate, self.spec, self.spec.combiner)

    def close(self) -> None:
        """Take the adapter off the model."""
        self._gate.detach()

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One logit a trajectory, before `deadline`. Raises `ScorerError` or `EngineError`."""
        prefixes = [(t.id, t.token_ids) for t in trajectories]
        try:
            async with asyncio.timeout_at(deadline):
                logits = await self._logits(prefixes)
        except TimeoutError:
            raise ScorerError("[STOP] was not read before the deadline") from None
        if self._combiner is None:
            return logits
        return [
            _combined(self._combiner, logit, trajectory)
            for logit, trajectory in zip(logits, trajectories, strict=True)
        ]

    async def _logits(self, prefixes: Sequence[tuple[str, Sequence[int]]]) -> list[float]:
        reserved = set(self.spec.stop_token_ids)
        if any(not reserved.isdisjoint(ids) for _, ids in prefixes):
            raise ScorerError("a prefix holds a [STOP] id: these ids must be banned in generation")
        states = await self._engine.probe(prefixes, self.spec.stop_token_ids)
        head = self._gate.adapter.head
        logits: list[float] = head(states.to(head.weight.device)).detach().cpu().tolist()
        return logits

    async def _shake_hands(self, folder: Path) -> None:
        handshake = self.spec.handshake
        if handshake is None:
            return
        [logit] = await self._logits([("handshake", handshake.prefix_token_ids)])
        precisions = (handshake.dtype, self._engine.capabilities.dtype)
        if not abs(logit - handshake.logit) <= max(_TOLERANCE.get(p, 0.5) for p in precisions):
            raise ModelError(
                f"the adapter {folder} scores its stored prefix {logit:.4f} here and "
                f"{handshake.logit:.4f} when it was saved: the model or its arithmetic is another one"
            )


def _combined(combiner: Combiner, logit: float, trajectory: Trajectory) -> float:
    statistics = confidence_statistics(
        trajectory.logprobs, len(trajectory.token_ids), combiner.window
    )
    return combine(combiner, logit, statistics)
