"""What an engine says of its candidates: recorded beside the ids, absent where the engine is silent."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from solver.config import ModelConfig
from solver.engines.loading import load_model
from solver.engines.transformers import TransformersEngine
from solver.journal.events import Sampled
from solver.journal.writer import JournalWriter
from solver.solving.resources import TrajectoryResources
from solver.solving.services import Services
from solver.solving.trajectory import Stage, TrajectoryRun, begin
from solver.types import StopReason, Trajectory
from tests.support.rig import Rig, every, problem, says


async def taken_to_the_mark(services: Services) -> Trajectory:
    trajectory = begin(problem(), 0, services.dialect.prompt("1+1?"), services)
    async with TrajectoryResources(services.sandboxes, services.engine, [trajectory]) as resources:
        run = TrajectoryRun(trajectory, services, resources)
        await run.advance(Stage(6, inf, StopReason.MARK))
    return trajectory


async def test_a_real_engine_tells(model_folder: Path, tmp_path: Path) -> None:
    rig = Rig(says={})
    model = load_model(ModelConfig(path=str(model_folder), device="cpu"))
    async with TransformersEngine(model) as engine:
        trajectory = await taken_to_the_mark(replace(rig.services(), engine=engine))
    assert len(trajectory.confidences) == len(trajectory.entropies) == 6
    assert all(0 <= entropy <= 2.9958 for entropy in trajectory.entropies)  # log 20
    assert all(value > 0 for value in trajectory.confidences)
    [sampled] = rig.of(Sampled)
    journal = JournalWriter(tmp_path / "journal.jsonl", on_failure=pytest.fail)
    journal.record(sampled)
    journal.close()
    line = json.loads((tmp_path / "journal.jsonl").read_text())
    assert line["confidences"] == [round(value, 3) for value in trajectory.confidences]
    assert line["entropies"] == [round(value, 3) for value in trajectory.entropies]


async def test_an_engine_may_be_silent(tmp_path: Path) -> None:
    rig = Rig(says=every([says(3, 9)]))
    trajectory = await taken_to_the_mark(rig.services())
    assert trajectory.confidences == trajectory.entropies == []
    [sampled] = rig.of(Sampled)
    assert isinstance(sampled, Sampled)
    assert sampled.confidences is None
    journal = JournalWriter(tmp_path / "journal.jsonl", on_failure=pytest.fail)
    journal.record(sampled)
    journal.close()
    assert "confidences" not in (tmp_path / "journal.jsonl").read_text()
