"""Where the learned parts of scorers lie: in folders of the user's, or shipped with the embedded model."""

from __future__ import annotations

from pathlib import Path

from solver.config import SolverConfig
from solver.embedded.paths import EMBEDDED, WEIGHTS
from solver.errors import PartMissing

SHIPPED_ADAPTER = WEIGHTS.parent / "stop"
SHIPPED_VERIFIER = WEIGHTS.parent / "verifier"


def adapter_folder(config: SolverConfig) -> Path:
    """The adapter that the config names, or the shipped one. Raises `PartMissing`."""
    return _given_or_shipped(config, config.prune.adapter, SHIPPED_ADAPTER, "adapter")


def reward_folder(config: SolverConfig) -> Path:
    """The reward model that the config names, or the shipped verifier. Raises `PartMissing`."""
    return _given_or_shipped(config, config.prune.reward_model, SHIPPED_VERIFIER, "reward_model")


def _given_or_shipped(config: SolverConfig, given: str | None, shipped: Path, key: str) -> Path:
    if given is not None:
        return Path(given).expanduser()
    if config.model.path == EMBEDDED and shipped.is_dir():
        return shipped
    raise PartMissing(f"the scorer {config.prune.scorer} needs a folder: --set prune.{key}=FOLDER")
