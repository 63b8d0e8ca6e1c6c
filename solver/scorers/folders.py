"""Where the learned parts of scorers lie: in folders of the user's, or shipped for some models."""

from __future__ import annotations

from pathlib import Path

from solver.config import SolverConfig
from solver.embedded.paths import EMBEDDED, WEIGHTS
from solver.errors import PartMissing

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


def _given_or_shipped(
    config: SolverConfig, given: str | None, embedded: Path, whose: str, key: str
) -> Path:
    if given is not None:
        return Path(given).expanduser()
    model = config.model.path
    shipped = embedded if model == EMBEDDED else _made_for(Path(model).expanduser(), embedded.name)
    if shipped is not None and shipped.is_dir():
        return shipped
    raise PartMissing(f"{whose} needs a folder: --set {key}=FOLDER")


def _made_for(model: Path, part: str) -> Path | None:
    """The shipped adapter of this name whose base has the model's norms, as all its GGUF files have.

    Whether it fits in all else is checked when it is loaded. Raises `ModelError` for a broken model file.
    """
    folders = sorted(spec.parent for spec in SHIPPED.glob(f"*/{part}/stop.json"))
    if not folders or not model.exists():
        return None
    from solver.adapter.folder import read_spec
    from solver.adapter.norms import norms_fingerprint

    norms = norms_fingerprint(model)
    return next(
        (folder for folder in folders if read_spec(folder).norms == norms is not None), None
    )
