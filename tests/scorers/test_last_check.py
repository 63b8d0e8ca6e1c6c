"""The last check on the engine: over a trajectory's cache and beside the mark's adapter."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from solver.adapter.folder import load_adapter
from solver.adapter.gate import StopGate
from solver.adapter.score import score_prefixes
from solver.config import ModelConfig, SolverConfig
from solver.engines.loading import load_model
from solver.engines.transformers import TransformersEngine
from solver.errors import ConfigError, ModelError, PartMissing
from solver.runs.settings import load_config
from solver.scorers import ScorerContext, folders
from solver.scorers.last_check import open_last_check, open_last_check_of_run
from solver.scorers.opening import open_scorer
from solver.stop.evaluation.scoring import pause
from tests.scorers.conftest import written
from tests.scorers.test_stop import MARK, TEXTS, saved
from tests.support.rig import DIALECT, TOKENIZER

PAD = TOKENIZER.pad_token_id


@pytest.fixture(scope="module")
def mark_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(model_folder, tmp_path_factory.mktemp("adapters") / "mark")


@pytest.fixture(scope="module")
def last_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "last"
    return saved(model_folder, folder, seed=5, mark=None, stop_token_ids=(PAD, PAD))


@pytest.fixture
async def engine(model_folder: Path) -> AsyncIterator[TransformersEngine]:
    model = load_model(ModelConfig(path=str(model_folder), device="cpu"))
    async with TransformersEngine(model) as opened:
        yield opened


def context(
    engine: Any, model: Path, *, closing: AsyncExitStack | None = None, **settings: Any
) -> ScorerContext:
    config = SolverConfig.model_validate(
        {"model": {"path": str(model), "prompt": "bare"}, "prune": {"mark": MARK}, **settings}
    )
    return ScorerContext(config, engine, DIALECT, model, (MARK,), closing or AsyncExitStack())


async def test_it_reads_what_is_cached_beside_the_marks_adapter(
    engine: TransformersEngine, model_folder: Path, mark_folder: Path, last_folder: Path
) -> None:
    trajectories = [written(index, text * 3) for index, text in enumerate(TEXTS)]
    expected = {}
    for folder, at_end in ((mark_folder, False), (last_folder, True)):
        loaded = load_adapter(folder, model_folder, at_end=at_end)
        model = load_model(ModelConfig(path=str(model_folder), device="cpu"))
        with StopGate.attach(model, loaded.adapter) as gate:
            scores = score_prefixes(model, gate, [t.token_ids for t in trajectories])
        expected[at_end] = pytest.approx(scores.tolist(), abs=1e-4)
    async with AsyncExitStack() as closing:
        given = context(
            engine, model_folder, closing=closing, vote={"rule": "verified", "adapter": str(last_folder)},
            prune={"mark": MARK, "scorer": "stop", "adapter": str(mark_folder)},
        )  # fmt: skip
        stop, last = await open_scorer(given), await open_last_check_of_run(given)
        assert stop is not None and last is not None
        assert {PAD, *last.spec.stop_token_ids} <= DIALECT.banned_token_ids
        await pause(engine, trajectories)
        before = engine.stats
        assert await last.score(trajectories, math.inf) == expected[True]
        # of each trajectory the id that was sampled last, which is not encoded yet, and two [STOP] ids
        assert engine.stats.scratch - before.scratch == len(trajectories) * (1 + 2)
        assert engine.stats.re_encoded == 0 and engine.stats.paused_tokens == before.paused_tokens
        assert await stop.score(trajectories, math.inf) == expected[False]
        assert await last.score(trajectories, math.inf) == expected[True]


async def test_what_is_refused(
    engine: TransformersEngine,
    model_folder: Path,
    mark_folder: Path,
    last_folder: Path,
    tmp_path: Path,
) -> None:
    def verified(folder: Path) -> ScorerContext:
        return context(engine, model_folder, vote={"rule": "verified", "adapter": str(folder)})

    with pytest.raises(ConfigError, match="trained for mark 12: the last check takes one"):
        await open_last_check_of_run(verified(mark_folder))
    with pytest.raises(ModelError, match="is not a STOP adapter: it does not exist"):
        await open_last_check_of_run(verified(tmp_path / "nowhere"))
    wrong = {"mark": MARK, "scorer": "stop", "adapter": str(last_folder)}
    with pytest.raises(ConfigError, match=r"end of trajectories: give it as vote\.adapter"):
        await open_scorer(context(engine, model_folder, prune=wrong))
    same = saved(model_folder, tmp_path / "same", mark=None)
    async with AsyncExitStack() as closing:
        given = context(
            engine, model_folder, closing=closing, vote={"rule": "verified", "adapter": str(same)},
            prune={"mark": MARK, "scorer": "stop", "adapter": str(mark_folder)},
        )  # fmt: skip
        await open_scorer(given)
        with pytest.raises(ModelError, match="train one of the two with other --stop-ids"):
            await open_last_check_of_run(given)


async def test_a_run_asks_only_where_its_vote_needs_it(
    engine: TransformersEngine, model_folder: Path, last_folder: Path
) -> None:
    adapter = {"adapter": str(last_folder)}
    assert await open_last_check_of_run(context(engine, model_folder, vote=adapter)) is None
    assert await open_last_check_of_run(context(engine, model_folder, record="full")) is None
    full = await open_last_check_of_run(context(engine, model_folder, record="full", vote=adapter))
    assert full is not None
    full.close()
    with pytest.raises(PartMissing, match=r"needs a folder: --set vote\.adapter=FOLDER"):
        await open_last_check(context(engine, model_folder))


def test_mistakes_are_found_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(folders, "SHIPPED_LAST_CHECK", tmp_path / "none")
    with pytest.raises(PartMissing, match=r"last check .*--set vote\.adapter=FOLDER"):
        load_config(sets=["vote.rule=verified"])
    with pytest.raises(ConfigError, match=r"in-process engine: choose model\.engine=transformers"):
        load_config("qwen3", sets=["vote.rule=verified", "vote.adapter=x", "model.path=m"])
    (tmp_path / "none").mkdir()
    assert load_config(sets=["vote.rule=verified"]).vote.rule == "verified"
