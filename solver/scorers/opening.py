"""The scorers of a run: its own one, and those that a full recording asks besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from solver.errors import ConfigError, PartMissing
from solver.ports import Scorer
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.declaration import Need, ScorerContext, ScorerDeclaration
from solver.scorers.registry import built_in, find_scorer
from solver.types import Trajectory


async def open_scorer(context: ScorerContext) -> Scorer | None:
    """The scorer that the config names; None for a method without scores.

    Raises `ModelError` or `ConfigError` if its adapter or reward model is missing or does not fit.
    """
    declaration = find_scorer(context.config.prune.scorer)
    scorer = await declaration.opened(context)
    if scorer is not None and scorer.name != declaration.name:
        raise ConfigError(f"the scorer {declaration.name} opens one that is called {scorer.name}")
    return scorer


async def open_recorded_scorers(context: ScorerContext, own: Scorer | None) -> tuple[Scorer, ...]:
    """What a full recording asks: every scorer of ours that replays cannot compute, and the run's own.

    Those whose parts are not there are left out; an ordinary run has none. `own` is the run's scorer.
    Raises `ModelError` or `ConfigError` if an adapter or reward model is there and does not fit.
    """
    if context.config.record != "full":
        return ()
    chosen = find_scorer(context.config.prune.scorer)
    scorers: list[Scorer] = []
    for declaration in dict.fromkeys([*built_in(), chosen]):
        if declaration.open is None or not _readable(declaration, chosen, context):
            continue
        if own is not None and own.name == declaration.name:
            scorers.append(own)
            continue
        try:
            scorers.append(await declaration.open(replace(context, any_mark=True)))
        except PartMissing:
            continue
    return tuple(scorers)


def promise_of(name: str) -> Callable[[Sequence[Trajectory]], Sequence[float]]:
    """How promising prefixes of any length are, at no cost: by the scorer `name` if it is computed from them,
    else by confidence."""
    declaration = find_scorer(name)
    computed = declaration if declaration.compute is not None else CONFIDENCE

    def promise(prefixes: Sequence[Trajectory]) -> list[float]:
        return computed.scores(prefixes, max(p.num_sampled_tokens for p in prefixes))

    return promise


def _readable(
    declaration: ScorerDeclaration, chosen: ScorerDeclaration, context: ScorerContext
) -> bool:
    """Whether the engine can read what the scorer needs: a server has an adapter for the run's only."""
    if context.config.model.engine == "transformers":
        return True
    if Need.STATES in declaration.needs:
        return False
    return Need.ADAPTER not in declaration.needs or Need.ADAPTER in chosen.needs
