"""What must be the same wherever problems are solved: our version, the model's files, the adapter's.

The driver's own are what the others are compared with.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from solver.adapter.fingerprint import fingerprint
from solver.config import SolverConfig
from solver.embedded.paths import model_folder
from solver.errors import ModelError, PartMissing
from solver.journal.summary import own_version
from solver.scorers import Need, find_scorer
from solver.scorers.folders import adapter_folder, last_check_folder, reward_folder


@dataclass(frozen=True, slots=True)
class Installation:
    """What a machine would solve problems with. Fingerprints are sha256 (hex), "" where none is needed."""

    version: str
    python: str
    model: str
    adapter: str
    reward_model: str
    last_check: str

    def difference(self, other: Installation) -> str | None:
        """The first thing in which `other` is not the same, as `adapter is X, here it is Y`."""
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if ours != theirs:
                name = field.name.replace("_", " ")
                return f"its {name} is {theirs[:12] or 'missing'}, the driver's is {ours[:12]}"
        return None


def installation(config: SolverConfig) -> Installation:
    """What this machine has for `config`; milliseconds, no model is loaded. Raises `ModelError`."""
    needs, verifies = find_scorer(config.prune.scorer).needs, config.vote.rule == "verified"
    return Installation(
        version=own_version(),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        model=fingerprint(model_folder(config.model.path)),
        adapter=_folder_digest(adapter_folder(config)) if Need.ADAPTER in needs else "",
        reward_model=_folder_digest(reward_folder(config)) if Need.REWARD_MODEL in needs else "",
        last_check=_folder_digest(last_check_folder(config)) if verifies else "",
    )


def why_unfit(config: SolverConfig, expected: Installation) -> str | None:
    """Why this machine must not solve problems of a run whose driver has `expected`, or None."""
    try:
        return expected.difference(installation(config))
    except (ModelError, PartMissing) as error:
        return str(error)


def _folder_digest(folder: Path) -> str:
    """Of names and contents of the small files of an adapter or a reward model."""
    digest = hashlib.sha256()
    try:
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise ModelError(f"cannot read {folder}: {error.strerror}") from None
    return digest.hexdigest()
