"""From a name to a scorer: what each one needs, and where the shipped parts lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solver.config import SolverConfig
from solver.dialects.base import Dialect
from solver.embedded.paths import EMBEDDED, WEIGHTS
from solver.errors import ConfigError
from solver.ports import Engine, Scorer
from solver.scorers.confidence import ConfidenceScorer, DeepConfScorer, EntropyScorer
from solver.scorers.similarity import SimilarityScorer

if TYPE_CHECKING:
    from solver.scorers.stop import StopScorer

SHIPPED_ADAPTER = WEIGHTS.parent / "stop"
SHIPPED_VERIFIER = WEIGHTS.parent / "verifier"


async def make_scorer(
    config: SolverConfig, engine: Engine, dialect: Dialect, model_folder: Path
) -> Scorer | None:
    """The scorer that `config.prune.scorer` names; None for random and none, which need no judge.

    Raises `ModelError` or `ConfigError` if its adapter or reward model is missing or does not fit.
    """
    prune = config.prune
    match prune.scorer:
        case "stop" | "stop+confidence":
            return await _open_stop(config, engine, dialect, model_folder, mark=prune.mark)
        case "reward":
            from solver.scorers.reward import RewardScorer

            return RewardScorer(reward_folder(config), dialect, engine.capabilities.device)
        case "deepconf":
            return DeepConfScorer.at_mark(prune.mark)
        case "random" | "none":
            return None
    plain: dict[str, Any] = {
        scorer.name: scorer for scorer in (ConfidenceScorer, EntropyScorer, SimilarityScorer)
    }
    made: Scorer = plain[prune.scorer]()
    return made


async def make_recorded_scorers(
    config: SolverConfig, engine: Engine, dialect: Dialect, model_folder: Path, own: Scorer | None
) -> tuple[Scorer, ...]:
    """Every learned scorer whose parts are there, for a full recording; none for an ordinary run.

    `own` is the run's scorer, whose adapter is shared. Raises `ModelError` or `ConfigError` if an
    adapter or reward model is there and does not fit.
    """
    if config.record != "full":
        return ()
    from solver.scorers.stop import StopScorer

    scorers: list[Scorer] = []
    if isinstance(own, StopScorer):
        scorers += own.variants()
    elif config.model.engine == "transformers" and _there(config, adapter_folder):
        stop = await _open_stop(config, engine, dialect, model_folder, mark=None)
        scorers += stop.variants()
    if _there(config, reward_folder):
        from solver.scorers.reward import RewardScorer

        scorers.append(RewardScorer(reward_folder(config), dialect, engine.capabilities.device))
    return tuple(scorers)


async def _open_stop(
    config: SolverConfig, engine: Engine, dialect: Dialect, model_folder: Path, mark: int | None
) -> StopScorer:
    from solver.scorers.stop import StopScorer

    stop = await StopScorer.open(
        engine,
        adapter_folder(config),
        model_folder,
        mark=mark,
        dialect=config.model.dialect,
        prompt=config.model.prompt,
        with_confidence=config.prune.scorer == "stop+confidence",
    )
    dialect.reserve(stop.spec.stop_token_ids)  # a sampled [STOP] id could not be scored
    return stop


def _there(config: SolverConfig, folder_of: Callable[[SolverConfig], Path]) -> bool:
    try:
        folder_of(config)
    except ConfigError:
        return False
    return True


def adapter_folder(config: SolverConfig) -> Path:
    """The adapter that the config names, or the shipped one. Raises `ConfigError`."""
    return _given_or_shipped(config, config.prune.adapter, SHIPPED_ADAPTER, "adapter")


def reward_folder(config: SolverConfig) -> Path:
    """The reward model that the config names, or the shipped verifier. Raises `ConfigError`."""
    return _given_or_shipped(config, config.prune.reward_model, SHIPPED_VERIFIER, "reward_model")


def _given_or_shipped(config: SolverConfig, given: str | None, shipped: Path, key: str) -> Path:
    if given is not None:
        return Path(given).expanduser()
    if config.model.path == EMBEDDED and shipped.is_dir():
        return shipped
    raise ConfigError(f"the scorer {config.prune.scorer} needs a folder: --set prune.{key}=FOLDER")
