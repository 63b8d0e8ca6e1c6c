"""The last check: [STOP] ids of a second kind behind a finished trajectory say whether its answer is right.

It is STOP at another place: an adapter that was trained on whole trajectories, read over the cache that a
trajectory leaves, before that is freed.
"""

from __future__ import annotations

from solver.errors import ConfigError, PartMissing
from solver.scorers.declaration import ScorerContext
from solver.scorers.folders import last_check_folder
from solver.scorers.stop import StopScorer

NOT_ON_VLLM = (
    "vote.rule=verified scores trajectories on the in-process engine: choose model.engine=transformers or"
    " another vote.rule"
)


async def open_last_check(context: ScorerContext) -> StopScorer:
    """The scorer of finished trajectories: logits of "its answer is right".

    Raises `PartMissing` without an adapter, and `ConfigError` or `ModelError` for one that is not of the
    last check or does not fit, and on an engine that cannot read it.
    """
    config = context.config
    folder = last_check_folder(config)
    if config.model.engine != "transformers":
        raise ConfigError(NOT_ON_VLLM)
    check = await StopScorer.open(
        context.engine,
        folder,
        context.model_folder,
        marks=(),
        at_end=True,
        dialect=config.model.dialect,
        prompt=config.model.prompt,
    )
    context.closing.callback(check.close)
    context.dialect.reserve(check.spec.stop_token_ids)  # a sampled [STOP] id cannot be scored
    return check


async def open_last_check_of_run(context: ScorerContext) -> StopScorer | None:
    """The last check where the vote weighs by it; a full recording asks it wherever that can be done.

    Raises what `open_last_check` raises.
    """
    config = context.config
    if config.vote.rule == "verified":
        return await open_last_check(context)
    if config.record != "full" or config.model.engine != "transformers":
        return None
    try:
        return await open_last_check(context)
    except PartMissing:
        return None
