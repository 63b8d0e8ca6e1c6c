"""Where the learned parts of scorers lie: in folders of the user's, or shipped with the embedded model."""

from __future__ import annotations

from pathlib import Path

from solver.config import SolverConfig
from solver.embedded.paths import EMBEDDED, WEIGHTS
from solver.errors import PartMissing

SHIPPED_ADAPTER = WEIGHTS.parent / "stop"
SHIPPED_LAST_CHECK = WEIGHTS.parent / "last"
SHIPPED_VERIFIER = WEIGHTS.parent / "verifier"


def adapter_folder(config: SolverConfig) -> Path:
    """The adapter that the config names, or the shipped one. Raises `PartMissing`."""
    whose, key = f"the scorer {config.prune.scorer}", "prune.adapter"
    return _given_or_shipped(config, config.prune.adapter, SHIPPED_ADAPTER, whose, key)


def reward_folder(config: SolverConfig) -> Path:
    """The reward model that the config names, or the shipped verifier. Raises `PartMissing`."""
    whose, key = f"the scorer {config.prune.scorer}", "prune.reward_model"
    return _given_or_shipped(config, config.prune.reward_model, SHIPPED_VERIFIER, whose, key)


def last_check_folder(config: SolverConfig) -> Path:
    """The adapter of the last check that the config names, or the shipped one. Raises `PartMissing`."""
    whose, key = "the last check (vote.rule=verified)", "vote.adapter"
    return _given_or_shipped(config, config.vote.adapter, SHIPPED_LAST_CHECK, whose, key)


def _given_or_shipped(
    config: SolverConfig, given: str | None, shipped: Path, whose: str, key: str
) -> Path:
    if given is not None:
        return Path(given).expanduser()
    if config.model.path == EMBEDDED and shipped.is_dir():
        return shipped
    raise PartMissing(f"{whose} needs a folder: --set {key}=FOLDER")
