"""Scoring saved rollouts as a run would score them, and the command from problems to pictures."""

from __future__ import annotations

import asyncio
import csv
import re
from pathlib import Path

import pytest
from transformers import BertConfig, BertForSequenceClassification

from solver.config import ModelConfig
from solver.engines.loading import load_model
from solver.engines.transformers import TransformersEngine
from solver.errors import ConfigError
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.declaration import ComputedScorer
from solver.scorers.stop import StopScorer
from solver.stop.__main__ import main
from solver.stop.evaluation.evaluate import check_settings
from solver.stop.evaluation.scoring import score_at
from solver.stop.rollouts.rollout import ProblemRollouts
from solver.stop.rollouts.sample import SamplingPlan, sample_problem
from solver.types import Problem
from tests.scorers.conftest import save_tiny_model, written
from tests.scorers.test_stop import COMBINER, MARK, saved
from tests.support import LoopClock, byte_tokenizer, run_virtual
from tests.support.rig import Rig, every, says


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapter_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(model_folder, tmp_path_factory.mktemp("adapters") / "stop", combiner=COMBINER)


def scripted_unit() -> ProblemRollouts:
    tales = ["A sure plan." + says(7), "An unsure one" + says(1), says(7)]

    async def work() -> ProblemRollouts:
        services = Rig(says=every(tales), logprobs={"p#0": -0.1}).services()
        problem = Problem("p", "1+1?", 7, {"kind": "tie"})
        return await sample_problem(problem, 0, SamplingPlan(3, 12), services, asyncio.Semaphore(9))

    return run_virtual(work())


async def test_prefixes_are_scored_over_the_engines_cache(
    model_folder: Path, adapter_folder: Path
) -> None:
    unit = await asyncio.to_thread(scripted_unit)
    async with TransformersEngine(
        load_model(ModelConfig(path=str(model_folder), device="cpu"))
    ) as engine:
        stop = await StopScorer.open(
            engine, adapter_folder, model_folder, mark=MARK, dialect="fenced", prompt="bare"
        )
        scorers = {"confidence": ComputedScorer(CONFIDENCE, 12), "stop": stop}
        done: list[None] = []
        [marked] = await score_at(
            [unit], 12, scorers, engine, LoopClock(), lambda: done.append(None)
        )
        before = engine.stats.scratch
        [again] = await score_at([unit], 12, {"stop": stop}, None, LoopClock())
        encoded = engine.stats.scratch - before
        assert engine.stats.paused_rows == 0
    assert len(done) == 1
    assert (marked.waiting, marked.right) == ([0, 1], [True, False])
    assert marked.scores["confidence"] == [pytest.approx(-0.1), pytest.approx(-1.0)]
    assert marked.scores["stop"] == pytest.approx(again.scores["stop"], abs=1e-4)
    assert encoded > 2 * 12, "without the cache every prefix is encoded"
    # over the cache: the last id of each prefix and the two [STOP] ids; and the handshake's prefix
    shake = len(written(0, "Let me count ").token_ids) + 2
    assert before == 2 * (1 + 2) + shake
    assert marked.seconds["stop"] > 0


def test_settings() -> None:
    check_settings(24, 8, [16, 32], 32)
    for settings, why in (
        ((24, 25, [16], 32), "--keep must be from 1 to the launch of 24"),
        ((24, 8, [0], 32), "--marks are"),
        ((24, 8, [33], 32), "cannot be cut at 33"),
    ):
        with pytest.raises(ConfigError, match=why):
            check_settings(*settings)  # type: ignore[arg-type]


def test_the_command(
    tmp_path: Path,
    model_folder: Path,
    adapter_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    problems = tmp_path / "p.csv"
    with problems.open("w", newline="") as file:
        rows = [["id", "problem", "answer", "kind"], ["a", "3+4?", 7, "x"], ["b", "1+1?", 2, "y"]]
        csv.writer(file).writerows(rows)
    reward = tmp_path / "reward"
    config = BertConfig(
        vocab_size=len(byte_tokenizer()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(reward)
    byte_tokenizer().save_pretrained(reward)
    rollouts = tmp_path / "rollouts.jsonl"
    shared = [
        "evaluate", "--model", str(model_folder), "--adapter", str(adapter_folder),
        "--reward-model", str(reward), "--keep", "2", "--keeps", "1,2,9", "--marks", "12,8",
        "--rollouts", str(rollouts), "--set", "model.prompt=bare", "--set", "model.device=cpu",
        "--set", "sampling.max_tokens=24", "--quiet",
    ]  # fmt: skip
    sampling = ["--problems", str(problems), "--launch", "4", "--seeds", "2"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([*shared, *sampling, "--out", str(first)]) == 0
    report = (first / "README.md").read_text()
    assert "2 problems, 2 x 4 rollouts each" in report
    for method in ("none", "random", "similarity", "reward", "confidence", "entropy", "deepconf",
                   "stop", "stop+confidence", "oracle"):  # fmt: skip
        assert re.search(rf"\n\| {re.escape(method)} +\| ", report)
    assert "## Kind: x" in report
    with (first / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {(row["mark"], row["keep"]) for row in table} == {
        ("8", "1"), ("8", "2"), ("12", "1"), ("12", "2"),
    }  # fmt: skip
    assert all((first / f"{name}.png").stat().st_size for name in ("tokens", "roc", "calibration"))

    before = rollouts.read_bytes()
    assert main([*shared, "--out", str(second)]) == 0, "the saved rollouts are enough"
    assert rollouts.read_bytes() == before

    def results(folder: Path) -> list[dict[str, str]]:
        with (folder / "table.csv").open() as file:
            return [
                {name: value for name, value in row.items() if name != "check_seconds"}
                for row in csv.DictReader(file)
            ]

    assert results(first) == results(second)
    capsys.readouterr()
    assert main([*shared, "--out", str(second), "--marks", "13"]) == 2
    assert "their first 12 tokens" in capsys.readouterr().err
