"""Internal, learned (kind IV): STOP. The engine reads [STOP] behind each cached prefix, the head scores.

Who reads is the engine's matter: a vLLM server does it as an ordinary request through the plugin, the
in-process engine in scratch rows under a gate. Either way the adapter is gated by token id, so scoring
changes no cache and no sampled token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from solver.errors import ModelError, PartMissing, ScorerError
from solver.ports import Scorer
from solver.scorers.declaration import Need, ScorerContext, ScorerDeclaration
from solver.types import Trajectory

if TYPE_CHECKING:  # a declaration takes no torch
    from solver.adapter.combine import Combiner
    from solver.adapter.gate import StopAdapter, StopGate
    from solver.adapter.spec import Handshake, StopSpec

Prefixes = Sequence[tuple[str, Sequence[int]]]


@runtime_checkable
class StopReader(Protocol):
    """What reads [STOP] behind prefixes; the vLLM engine is one."""

    @property
    def handshake(self) -> Handshake | None:
        """The stored prefix that it was already seen to score as when it was saved, if any."""
        ...

    async def stop_logits(self, prefixes: Prefixes) -> list[float]:
        """The logit of "ends right" of each (trajectory id, ids)."""
        ...


class GatedReader:
    """Reads [STOP] on the in-process engine, whose model carries the adapter until `close`."""

    handshake: Handshake | None = None  # nobody has looked

    def __init__(self, engine: Any, gate: StopGate) -> None:
        """`engine` is a `TransformersEngine` (or has its `probe`); `gate` is attached to its model."""
        self._engine, self._gate = engine, gate

    def attach_again(self) -> None:
        """Put the adapter back on the model after `close`. Raises `ModelError` if another one is on it."""
        from solver.adapter.gate import StopGate

        self._gate = StopGate.attach(self._engine.model, self._gate.adapter)

    @classmethod
    def attach(cls, engine: Any, adapter: StopAdapter) -> Self:
        """Put the adapter on the engine's model. Raises `ModelError`."""
        from solver.adapter.gate import StopGate

        return cls(engine, StopGate.attach(engine.model, adapter))

    async def stop_logits(self, prefixes: Prefixes) -> list[float]:
        """The logit of "ends right" of each (trajectory id, ids)."""
        states = await self._engine.probe(prefixes, self._gate.adapter.stop_token_ids)
        head = self._gate.adapter.head
        logits: list[float] = head(states.to(head.weight.device)).detach().cpu().tolist()
        return logits

    def close(self) -> None:
        """Take the adapter off the model."""
        self._gate.detach()


class StopScorer:
    """The logit of "ends right" of each prefix.

    An id of [STOP] has one adapter on a model: close one scorer before the next of its ids is opened.
    """

    name = "stop"

    def __init__(self, reader: StopReader, spec: StopSpec) -> None:
        self.spec = spec
        self._reader = reader

    @classmethod
    async def open(
        cls,
        engine: Any,
        folder: Path,
        model_folder: Path,
        *,
        marks: Sequence[int],
        dialect: str,
        prompt: str,
        at_end: bool = False,
    ) -> Self:
        """Check the adapter in `folder` against model, marks and prompt, and have `engine` read it.

        Without marks, any will do.

        `at_end` asks for an adapter of the last check, which scores finished trajectories.
        An engine that serves the adapter itself (`StopReader`) is taken as it is; on the in-process
        engine the adapter is attached. Raises `ModelError` or `ConfigError` with one line that says
        what differs; it also scores the prefix that is stored with the adapter and compares, unless
        the engine has seen its servers do that.
        """
        from solver.adapter.folder import load_adapter
        from solver.engines.threads import in_own_thread

        loaded = in_own_thread(
            load_adapter,
            folder,
            model_folder,
            marks=marks,
            at_end=at_end,
            dialect=dialect,
            prompt=prompt,
        )
        serves = isinstance(engine, StopReader)
        reader = engine if serves else GatedReader.attach(engine, loaded.adapter)
        scorer = cls(reader, loaded.spec)
        try:
            await scorer._shake_hands(folder, engine.capabilities.dtype)
        except BaseException:
            scorer.close()
            raise
        return scorer

    def open_again(self) -> None:
        """What `close` undid, without another handshake; nothing may be sampled meanwhile."""
        if isinstance(self._reader, GatedReader):
            self._reader.attach_again()

    def close(self) -> None:
        """Take the adapter off the in-process engine's model; a server keeps its own."""
        if isinstance(self._reader, GatedReader):
            self._reader.close()

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One logit a trajectory, before `deadline`. Raises `ScorerError` or `EngineError`."""
        prefixes = [(t.id, t.token_ids) for t in trajectories]
        try:
            async with asyncio.timeout_at(deadline):
                return await self._logits(prefixes)
        except TimeoutError:
            raise ScorerError("[STOP] was not read before the deadline") from None

    async def _logits(self, prefixes: Prefixes) -> list[float]:
        reserved = set(self.spec.stop_token_ids)
        if any(not reserved.isdisjoint(ids) for _, ids in prefixes):
            raise ScorerError("a prefix holds a [STOP] id: these ids must be banned in generation")
        return await self._reader.stop_logits(prefixes)

    async def _shake_hands(self, folder: Path, dtype: str) -> None:
        handshake = self.spec.handshake
        if handshake is None or handshake == self._reader.handshake:
            return
        [logit] = await self._logits([("handshake", handshake.prefix_token_ids)])
        if not handshake.agrees(logit, dtype):
            raise ModelError(
                f"the adapter {folder} scores its stored prefix {logit:.4f} here and "
                f"{handshake.logit:.4f} when it was saved: the model or its arithmetic is another one; "
                "choose another adapter, or another scorer"
            )


class CombinedScorer:
    """The logit of stop+confidence: what `stop` gives, combined with each prefix's confidence."""

    name = "stop+confidence"

    def __init__(self, stop: Scorer, combiner: Combiner) -> None:
        self._stop, self._combiner = stop, combiner

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One logit a trajectory, before `deadline`. Raises what `stop` raises."""
        from solver.adapter.combine import combine, confidence_statistics

        logits = await self._stop.score(trajectories, deadline)
        combiner = self._combiner
        statistics = [
            confidence_statistics(t.logprobs, len(t.token_ids), combiner.window)
            for t in trajectories
        ]
        pairs = zip(logits, statistics, strict=True)
        return [combine(combiner, logit, values) for logit, values in pairs]


async def _open_stop(context: ScorerContext) -> StopScorer:
    """The adapter's scorer, one for all that read the adapter in this context."""
    if "stop" not in context.shared:
        stop = await StopScorer.open(
            context.engine,
            context.adapter,
            context.model_folder,
            marks=() if context.any_mark else context.marks,
            dialect=context.config.model.dialect,
            prompt=context.config.model.prompt,
        )
        context.closing.callback(stop.close)
        context.dialect.reserve(stop.spec.stop_token_ids)  # a sampled [STOP] id cannot be scored
        context.shared["stop"] = stop
    scorer: StopScorer = context.shared["stop"]
    return scorer


async def _open_combined(context: ScorerContext) -> CombinedScorer:
    stop = await _open_stop(context)
    if stop.spec.combiner is None:
        raise PartMissing(
            f"the adapter {context.adapter} has no stop+confidence combiner: train it on examples with"
            " logprobs, or use the scorer stop"
        )
    return CombinedScorer(stop, stop.spec.combiner)


STOP = ScorerDeclaration(
    "stop", open=_open_stop, needs=frozenset({Need.ADAPTER}), gives_chances=True
)
STOP_AND_CONFIDENCE = ScorerDeclaration(
    "stop+confidence",
    open=_open_combined,
    needs=frozenset({Need.ADAPTER, Need.COMBINER}),
    gives_chances=True,
)
