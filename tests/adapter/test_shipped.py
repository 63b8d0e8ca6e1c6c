"""What is shipped for models of others: found, whole, small, and of the preset of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from solver.adapter.folder import read_spec
from solver.runs.settings import load_config
from solver.scorers.folders import SHIPPED

FOLDERS = sorted(SHIPPED.glob("*/stop"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_a_shipped_adapter(folder: Path) -> None:
    spec = read_spec(folder)
    config = load_config(folder.parent.name, sets=["model.path=/m"])
    assert config.prune.scorer == "stop"
    assert config.prune.mark == spec.mark and config.model.prompt == spec.prompt
    assert spec.norms is not None and spec.handshake is not None
    card = (folder.parent / "MODEL_CARD.md").read_text()
    assert spec.base_model in card
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8_000_000


def test_something_is_shipped() -> None:
    assert FOLDERS
