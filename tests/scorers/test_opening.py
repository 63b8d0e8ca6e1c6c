"""Every name of `--scorer` opens its scorer, or says what it needs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox.limits import Limits
from solver.config import SolverConfig
from solver.dialects.base import Dialect
from solver.dialects.fenced import FencedDialect
from solver.engines.scripted import ScriptedEngine
from solver.errors import ConfigError, PartMissing
from solver.policy.prune import Selection
from solver.scorers import ScorerContext, find_scorer, folders
from solver.scorers.opening import open_recorded_scorers, open_scorer
from solver.scorers.registry import BUILT_IN
from tests.support import byte_tokenizer
from tests.support.rig import DIALECT

LEARNED = {
    "stop": "adapter",
    "stop+confidence": "adapter",
    "probe": "adapter",
    "reward": "reward_model",
}


def context(name: str, dialect: Dialect = DIALECT, record: str = "run", **prune: Any) -> Any:
    settings = {"prune": {"scorer": name, **prune}, "model": {"path": "mine"}, "record": record}
    config = SolverConfig.model_validate(settings)
    return ScorerContext(
        config, ScriptedEngine({}), dialect, Path("mine"), (config.prune.mark,), AsyncExitStack()
    )


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - set(LEARNED)))
async def test_names(name: str) -> None:
    made = await open_scorer(context(name))
    scored = find_scorer(name).selection is Selection.BEST
    assert scored == (name not in ("random", "none"))
    assert made.name == name if scored else made is None


@pytest.mark.parametrize(("name", "key"), LEARNED.items())
async def test_what_is_learned_needs_a_folder(name: str, key: str) -> None:
    with pytest.raises(PartMissing, match=rf"needs a folder: --set prune\.{key}=FOLDER"):
        await open_scorer(context(name))


async def test_a_full_recording_leaves_out_what_is_missing() -> None:
    given = context("random", record="full")
    assert await open_recorded_scorers(given, await open_scorer(given)) == ()


def test_shipped_parts_are_for_the_embedded_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(folders, "SHIPPED_ADAPTER", tmp_path)
    embedded = SolverConfig.model_validate({"prune": {"scorer": "stop"}})
    assert folders.adapter_folder(embedded) == tmp_path
    given = SolverConfig.model_validate({"prune": {"scorer": "stop", "adapter": "~/mine"}})
    assert folders.adapter_folder(given) == Path.home() / "mine"


class Opened:
    """Stands in for the scorer that an adapter gives."""

    name = "stop"

    def __init__(self, combiner: object = None) -> None:
        self.spec = SimpleNamespace(stop_token_ids=(5, 6), combiner=combiner)
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Opened]:
    made: list[Opened] = []

    async def open_(*_: object, **__: object) -> Opened:
        made.append(Opened(combiner="weights"))
        return made[-1]

    monkeypatch.setattr("solver.scorers.stop.StopScorer.open", open_)
    return made


async def test_the_ids_of_the_adapter_are_never_sampled(opened: list[Opened]) -> None:
    dialect = FencedDialect(byte_tokenizer(), "bare", Limits())
    await open_scorer(context("stop", dialect, adapter="somewhere"))
    assert {5, 6} <= dialect.banned_token_ids


@pytest.mark.parametrize("name", ["stop", "stop+confidence", "confidence"])
async def test_a_full_recording_attaches_an_adapter_once(name: str, opened: list[Opened]) -> None:
    dialect = FencedDialect(byte_tokenizer(), "bare", Limits())
    given = context(name, dialect, record="full", adapter="somewhere")
    async with given.closing:
        own = await open_scorer(given)
        recorded = await open_recorded_scorers(given, own)
        assert [scorer.name for scorer in recorded] == ["stop", "stop+confidence"]
        assert len(opened) == 1 and not opened[0].is_closed
        assert name == "confidence" or own in recorded
    assert opened[0].is_closed


async def test_a_combiner_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_(*_: object, **__: object) -> Opened:
        return Opened()

    monkeypatch.setattr("solver.scorers.stop.StopScorer.open", open_)
    dialect = FencedDialect(byte_tokenizer(), "bare", Limits())
    both = context("stop+confidence", dialect, record="full", adapter="somewhere")
    with pytest.raises(ConfigError, match=r"somewhere has no stop\+confidence combiner"):
        await open_scorer(both)
    plain = context("stop", dialect, record="full", adapter="somewhere")
    recorded = await open_recorded_scorers(plain, await open_scorer(plain))
    assert [scorer.name for scorer in recorded] == ["stop"]
