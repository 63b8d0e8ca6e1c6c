"""Every name of `--scorer` makes its scorer, or says what it needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from solver import scorers
from solver.config import SolverConfig
from solver.dialects.fenced import FencedDialect
from solver.engines.scripted import ScriptedEngine
from solver.errors import ConfigError
from solver.scorers import registry
from tests.support import byte_tokenizer
from tests.support.rig import DIALECT

LEARNED = {"stop": "adapter", "stop+confidence": "adapter", "reward": "reward_model"}


async def make(name: str, **prune: Any) -> Any:
    config = SolverConfig.model_validate(
        {"prune": {"scorer": name, **prune}, "model": {"path": "mine"}}
    )
    return await registry.make_scorer(config, ScriptedEngine({}), DIALECT, Path("mine"))


@pytest.mark.parametrize("name", sorted(set(scorers.NAMES) - set(LEARNED)))
async def test_names(name: str) -> None:
    made = await make(name)
    assert made is None if name in ("random", "none") else made.name == name


@pytest.mark.parametrize(("name", "key"), LEARNED.items())
async def test_what_is_learned_needs_a_folder(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"--set prune\.{key}=FOLDER"):
        await make(name)


def test_shipped_parts_are_for_the_embedded_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(registry, "SHIPPED_ADAPTER", tmp_path)
    embedded = SolverConfig.model_validate({"prune": {"scorer": "stop"}})
    assert registry.adapter_folder(embedded) == tmp_path
    given = SolverConfig.model_validate({"prune": {"scorer": "stop", "adapter": "~/mine"}})
    assert registry.adapter_folder(given) == Path.home() / "mine"


async def test_the_ids_of_the_adapter_are_never_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Opened:
        spec = SimpleNamespace(stop_token_ids=(5, 6))

    async def opened(*_: object, **__: object) -> Opened:
        return Opened()

    monkeypatch.setattr("solver.scorers.stop.StopScorer.open", opened)
    dialect = FencedDialect(byte_tokenizer(), "bare")
    config = SolverConfig.model_validate({"prune": {"scorer": "stop", "adapter": "somewhere"}})
    await registry.make_scorer(config, ScriptedEngine({}), dialect, Path("mine"))
    assert {5, 6} <= dialect.banned_token_ids
