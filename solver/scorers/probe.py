"""Internal, learned (kind IV), but nothing more than a head: a linear probe of the last hidden state.

It reads the state of the base model at a prefix's last id, without [STOP] and without an adapter on the
model: what STOP has to beat. It was trained with an adapter and lies in its folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from solver.errors import PartMissing, ScorerError
from solver.scorers.declaration import Need, ScorerContext, ScorerDeclaration
from solver.types import Trajectory

if TYPE_CHECKING:  # a declaration takes no torch
    from solver.adapter.gate import Head


@runtime_checkable
class StateReader(Protocol):
    """An engine that tells hidden states; the in-process one does."""

    async def probe(
        self, prefixes: Sequence[tuple[str, Sequence[int]]], suffix_ids: Sequence[int]
    ) -> Any:
        """The last layer's states `[prefixes, hidden]` at the last id of each prefix and suffix."""
        ...


class ProbeScorer:
    """The logit of "ends right" of each prefix, from its last hidden state alone."""

    name = "probe"

    def __init__(self, reader: StateReader, head: Head) -> None:
        self._reader, self._head = reader, head

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One logit a trajectory, before `deadline`. Raises `ScorerError` or `EngineError`."""
        prefixes = [(t.id, t.token_ids) for t in trajectories]
        try:
            async with asyncio.timeout_at(deadline):
                states = await self._reader.probe(prefixes, ())
        except TimeoutError:
            raise ScorerError("the last states were not read before the deadline") from None
        logits: list[float] = self._head(states).detach().tolist()
        return logits


async def _open(context: ScorerContext) -> ProbeScorer:
    """One head for all marks of this context."""
    from solver.adapter.folder import load_adapter
    from solver.engines.threads import in_own_thread

    if "probe" in context.shared:
        known: ProbeScorer = context.shared["probe"]
        return known
    folder = context.adapter
    if not isinstance(context.engine, StateReader):
        raise PartMissing("the scorer probe needs the in-process engine: --engine transformers")
    loaded = in_own_thread(
        load_adapter,
        folder,
        context.model_folder,
        marks=() if context.any_mark else context.marks,
        dialect=context.config.model.dialect,
        prompt=context.config.model.prompt,
    )
    if loaded.probe is None:
        raise PartMissing(
            f"the adapter {folder} has no probe: train it anew, or use the scorer stop"
        )
    scorer = context.shared["probe"] = ProbeScorer(context.engine, loaded.probe)
    return scorer


PROBE = ScorerDeclaration(
    "probe", open=_open, needs=frozenset({Need.ADAPTER, Need.STATES}), gives_chances=True
)
