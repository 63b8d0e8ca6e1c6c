"""STOP through the engine: the reference's scores, nothing tainted, every mismatch refused."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from solver.adapter.combine import STATISTICS, Combiner, combine, confidence_statistics
from solver.adapter.fingerprint import fingerprint
from solver.adapter.folder import load_adapter, read_spec, save_adapter
from solver.adapter.gate import Head, StopAdapter, StopGate
from solver.adapter.score import score_prefixes
from solver.adapter.spec import Handshake, Metrics, Probe, StopSpec
from solver.config import ModelConfig
from solver.engines import int8
from solver.engines.loading import load_model
from solver.engines.transformers import TransformersEngine
from solver.errors import ConfigError, ModelError, ScorerError
from solver.scorers.stop import CombinedScorer, StopScorer
from tests.scorers.conftest import written
from tests.support.rig import TOKENIZER

MARK = 12
COMBINER = Combiner(
    names=("stop", *STATISTICS),
    means=(0.0,) * 6,
    scales=(1.0,) * 6,
    weights=(1.0, 2.0, 0.5, 0.0, -1.0, 0.01),
    bias=0.25,
    window=4,
    num_examples=10,
)
TEXTS = ("Let me count ", "The sum is 1", "No idea at a")


@pytest.fixture(scope="module")
def adapter_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(model_folder, tmp_path_factory.mktemp("adapters") / "stop", combiner=COMBINER)


def saved(
    model_folder: Path, folder: Path, *, seed: int = 2, probe: Head | None = None, **changes: Any
) -> Path:
    model = load_model(ModelConfig(path=str(model_folder), device="cpu"))
    stop_ids = (TOKENIZER.convert_tokens_to_ids("<|stop_0|>"),) * 2
    adapter = StopAdapter.fresh(model, stop_ids, rank=4, seed=1)
    with torch.no_grad():
        for delta in adapter.delta_by_path.values():
            delta.lora_B.normal_(std=0.3, generator=torch.Generator().manual_seed(seed))
        adapter.head.weight.normal_(std=32**-0.5, generator=torch.Generator().manual_seed(seed))
    prefix = tuple(written(0, TEXTS[0]).token_ids)
    with StopGate.attach(model, adapter) as gate:
        logit = float(score_prefixes(model, gate, [prefix])[0])
    fields: dict[str, Any] = {
        "base_model": "tiny",
        "fingerprint": fingerprint(model_folder),
        "hidden_size": 32,
        "stop_token_ids": stop_ids,
        "mark": MARK,
        "dialect": "fenced",
        "prompt": "bare",
        "rank": 4,
        "alpha": 8.0,
        "targets": ("q_proj", "v_proj"),
        "handshake": Handshake(prefix_token_ids=prefix, logit=logit, dtype="float32"),
    }
    if probe is not None:
        metrics = Metrics(
            loss=0.6, brier=0.2, auroc=None, within_auroc=None, num_examples=1, num_problems=1
        )
        fields["probe"] = Probe(l2=1.0, validation=metrics)
    save_adapter(folder, adapter, StopSpec(**fields | changes), probe)
    return folder


@pytest.fixture
async def engine(model_folder: Path) -> AsyncIterator[TransformersEngine]:
    model = load_model(ModelConfig(path=str(model_folder), device="cpu"))
    async with TransformersEngine(model) as opened:
        yield opened


async def opened(
    engine: TransformersEngine, adapter: Path, model: Path, **changes: Any
) -> StopScorer:
    given = {"marks": [MARK], "dialect": "fenced", "prompt": "bare", **changes}
    return await StopScorer.open(engine, adapter, model, **given)


async def test_scores_are_the_references(
    engine: TransformersEngine, adapter_folder: Path, model_folder: Path
) -> None:
    trajectories = [written(index, text) for index, text in enumerate(TEXTS)]
    scorer = await opened(engine, adapter_folder, model_folder)
    assert scorer.name == "stop"
    scores = await scorer.score(trajectories, math.inf)
    loaded = load_adapter(adapter_folder, model_folder)
    model = load_model(ModelConfig(path=str(model_folder), device="cpu"))
    with StopGate.attach(model, loaded.adapter) as gate:
        expected = score_prefixes(model, gate, [t.token_ids for t in trajectories])
    assert scores == pytest.approx(expected.tolist(), abs=1e-4)
    assert len(set(scores)) == 3

    both = CombinedScorer(scorer, COMBINER)
    assert both.name == "stop+confidence"
    assert await both.score(trajectories, math.inf) == pytest.approx(
        [
            combine(COMBINER, score, confidence_statistics(t.logprobs, len(t.token_ids), 4))
            for score, t in zip(scores, trajectories, strict=True)
        ]
    )


@pytest.mark.skipif(not int8.available(), reason="torch without x86 kernels")
async def test_an_adapter_of_a_float_model_scores_over_int8_layers(
    adapter_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    """The handshake allows 0.5 of a logit there, and no more."""
    trajectories = [written(index, text) for index, text in enumerate(TEXTS)]
    config = ModelConfig(path=str(model_folder), device="cpu", dtype="int8")
    async with TransformersEngine(load_model(config)) as engine:
        scorer = await opened(engine, adapter_folder, model_folder)
        scores = await scorer.score(trajectories, math.inf)
        scorer.close()
        stored = read_spec(adapter_folder).handshake
        assert stored is not None
        far = stored.model_copy(update={"logit": stored.logit + 1.0})
        other = saved(model_folder, tmp_path / "other", handshake=far)
        with pytest.raises(ModelError, match="scores its stored prefix"):
            await opened(engine, other, model_folder)
    loaded = load_adapter(adapter_folder, model_folder)
    exact = load_model(config.model_copy(update={"dtype": "float32"}))
    with StopGate.attach(exact, loaded.adapter) as gate:
        expected = score_prefixes(exact, gate, [t.token_ids for t in trajectories])
    assert scores == pytest.approx(expected.tolist(), abs=0.25)
    assert scores != pytest.approx(expected.tolist(), abs=1e-4)  # it did run in 8 bits


async def test_closing_gives_the_model_back(
    engine: TransformersEngine, adapter_folder: Path, model_folder: Path
) -> None:
    for _ in range(2):
        scorer = await opened(engine, adapter_folder, model_folder)
        scorer.close()


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"marks": [12, 13]}, ConfigError, "mark 12, this run checks at mark 12 and 13"),
        ({"dialect": "other"}, ConfigError, "speaks other"),
        ({"prompt": "tools"}, ConfigError, "prompt bare, this run uses tools"),
    ],
)
async def test_another_run_than_it_was_trained_for(
    engine: TransformersEngine,
    adapter_folder: Path,
    model_folder: Path,
    changes: dict[str, Any],
    error: type[Exception],
    why: str,
) -> None:
    with pytest.raises(error, match=why):
        await opened(engine, adapter_folder, model_folder, **changes)


async def test_a_handshake_that_fails_leaves_no_adapter(
    engine: TransformersEngine, model_folder: Path, tmp_path: Path
) -> None:
    prefix = tuple(written(0, TEXTS[0]).token_ids)
    wrong = Handshake(prefix_token_ids=prefix, logit=99.0, dtype="float32")
    folder = saved(model_folder, tmp_path / "wrong", handshake=wrong, combiner=None)
    for _ in range(2):  # a second try would be refused for the gate, if it were still there
        with pytest.raises(ModelError, match="when it was saved"):
            await opened(engine, folder, model_folder)


async def test_a_prefix_with_a_stop_id(
    engine: TransformersEngine, adapter_folder: Path, model_folder: Path
) -> None:
    scorer = await opened(engine, adapter_folder, model_folder)
    with pytest.raises(ScorerError, match="banned"):
        await scorer.score([written(0, "a<|stop_0|>b")], math.inf)


async def test_the_deadline(
    engine: TransformersEngine,
    adapter_folder: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer = await opened(engine, adapter_folder, model_folder)

    async def hang(*given: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(engine, "probe", hang)
    with pytest.raises(ScorerError, match="deadline"):
        await scorer.score([written(0, "ab")], asyncio.get_running_loop().time() + 0.01)
