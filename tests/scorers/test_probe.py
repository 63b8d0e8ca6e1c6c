"""The probe: a head on the base model's last state, read by the engine without [STOP]."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import torch

from solver.adapter.folder import load_adapter
from solver.adapter.gate import Head
from solver.config import ModelConfig, SolverConfig
from solver.engines.loading import load_model
from solver.engines.scripted import ScriptedEngine
from solver.engines.transformers import TransformersEngine
from solver.errors import ConfigError, ModelError, PartMissing
from solver.ports import Engine
from solver.scorers import ScorerContext, find_scorer
from solver.stop.evaluation.scoring import pause
from tests.scorers.conftest import written
from tests.scorers.test_stop import MARK, TEXTS, saved
from tests.support.rig import DIALECT


@pytest.fixture
def probe() -> Head:
    head = Head(32)
    with torch.no_grad():
        head.weight.normal_(generator=torch.Generator().manual_seed(4))
        head.bias.fill_(0.25)
    return head


@pytest.fixture
async def engine(model_folder: Path) -> AsyncIterator[TransformersEngine]:
    model = load_model(ModelConfig(path=str(model_folder), device="cpu"))
    async with TransformersEngine(model) as opened:
        yield opened


def context(engine: Engine, adapter: Path, model: Path, mark: int = MARK) -> ScorerContext:
    config = SolverConfig.model_validate(
        {
            "prune": {"scorer": "probe", "adapter": str(adapter), "mark": mark},
            "model": {"path": str(model), "prompt": "bare"},
        }
    )
    return ScorerContext(config, engine, DIALECT, model, (mark,), AsyncExitStack())


async def test_scores_are_the_heads(
    engine: TransformersEngine, model_folder: Path, tmp_path: Path, probe: Head
) -> None:
    folder = saved(model_folder, tmp_path / "stop", probe=probe)
    scorer = await find_scorer("probe").opened(context(engine, folder, model_folder))
    assert scorer is not None
    trajectories = [written(index, text) for index, text in enumerate(TEXTS)]
    model = load_model(ModelConfig(path=str(model_folder), device="cpu"))
    with torch.no_grad():
        expected = [
            float(probe(model.base_model(torch.tensor([t.token_ids])).last_hidden_state[0, -1]))
            for t in trajectories
        ]
    assert await scorer.score(trajectories, math.inf) == pytest.approx(expected, abs=1e-4)
    # over paused trajectories only the last id of each is encoded
    await pause(engine, trajectories)
    before = engine.stats.scratch
    assert await scorer.score(trajectories, math.inf) == pytest.approx(expected, abs=1e-4)
    assert engine.stats.scratch - before == len(trajectories)


async def test_what_is_refused(
    engine: TransformersEngine, model_folder: Path, tmp_path: Path, probe: Head
) -> None:
    declaration = find_scorer("probe")
    without = saved(model_folder, tmp_path / "without")
    with pytest.raises(PartMissing, match="has no probe: train it anew"):
        await declaration.opened(context(engine, without, model_folder))
    folder = saved(model_folder, tmp_path / "stop", probe=probe)
    with pytest.raises(ConfigError, match="trained for mark 12, this run checks at mark 9"):
        await declaration.opened(context(engine, folder, model_folder, mark=9))
    with pytest.raises(PartMissing, match="needs the in-process engine"):
        await declaration.opened(context(ScriptedEngine({}), folder, model_folder))
    (folder / "probe.safetensors").unlink()
    with pytest.raises(ModelError, match="has no probe"):
        load_adapter(folder, model_folder)
