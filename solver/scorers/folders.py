"""Where the learned parts of scorers lie: in folders of the user's, or shipped for some models."""

from __future__ import annotations

from pathlib import Path

from solver.config import SolverConfig
from solver.embedded.paths import EMBEDDED, WEIGHTS
from solver.errors import PartMissing
from solver.files.paths import user_path

SHIPPED_ADAPTER = WEIGHTS.parent / "stop"
SHIPPED_LAST_CHECK = WEIGHTS.parent / "last"
SHIPPED_VERIFIER = WEIGHTS.parent / "verifier"
# a folder for each model of others, with its adapters
SHIPPED = Path(__file__).parents[1] / "shipped"


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


def shipped_for(model: str) -> Path | None:
    """The folder with the adapters that are shipped for another's model: a folder or GGUF file.

    Their base has the norms of the model, as the model's GGUF files have; whether one fits in all else is
    checked when it is loaded. The folder's name is that of the model's preset. Raises `ModelError` for a
    broken file.
    """
    path = user_path(model)
    specs = sorted(SHIPPED.glob("*/*/stop.json"))
    if model == EMBEDDED or not specs or not path.exists():
        return None
    from solver.adapter.norms import norms_fingerprint

    norms = norms_fingerprint(path)
    if norms is None:
        return None
    from solver.adapter.folder import read_spec  # needs torch

    return next((s.parents[1] for s in specs if read_spec(s.parent).norms == norms), None)


def _given_or_shipped(
    config: SolverConfig, given: str | None, embedded: Path, whose: str, key: str
) -> Path:
    if given is not None:
        return user_path(given)
    model = config.model.path
    folder = embedded.parent if model == EMBEDDED else shipped_for(model)
    if folder is not None and (shipped := folder / embedded.name).is_dir():
        return shipped
    raise PartMissing(f"{whose} needs a folder: --set {key}=FOLDER")
