"""Linear layers in 8 bits: near the float layer, and blind to what stands beside a row."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from solver.adapter.gate import StopAdapter, StopGate
from solver.build import services
from solver.config import ModelConfig
from solver.engines import int8
from solver.engines.int8 import Int8Linear, Weights
from solver.engines.loading import load_model
from solver.engines.transformers import TransformersEngine, load
from solver.errors import ConfigError, ModelError
from solver.runs.settings import load_config
from tests.engines.helpers import (
    KINDS,
    Said,
    greedy,
    next_logits,
    params,
    prompt,
    say,
    tiny_model,
)

pytestmark = pytest.mark.skipif(not int8.available(), reason="torch without x86 kernels")


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_near_the_float_one(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(200, 300, bias=bias)
    states = torch.randn(2, 7, 200)
    states[0, 0, 0] = 100.0  # an outlier costs its own row only
    with torch.no_grad():
        expected, found = linear(states), Int8Linear.of(linear)(states)
    assert found.shape == expected.shape
    error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert float(error.flatten()[1:].max()) < 0.03
    assert float(Int8Linear.of(linear)(torch.zeros(1, 200)).abs().max()) <= (
        float(linear.bias.detach().abs().max()) if bias else 0
    )


def test_a_row_has_the_same_bits_in_any_company() -> None:
    torch.manual_seed(1)
    layer = Int8Linear.of(nn.Linear(128, 96))
    states = torch.randn(24, 128)
    states[5] *= 1000
    together = layer(states)
    for row in range(24):
        assert torch.equal(layer(states[row : row + 1])[0], together[row])


def test_the_largest_products_do_not_overflow() -> None:
    """Pairs of products are added in 16 bits where there is no VNNI."""
    linear = nn.Linear(512, 8, bias=False)
    linear.weight.data.fill_(1.0)
    states = torch.full((1, 512), 3.0)
    assert Int8Linear.of(linear)(states)[0].tolist() == pytest.approx([1536.0] * 8, rel=1e-5)


def test_layers_of_the_same_states_are_one_product() -> None:
    torch.manual_seed(2)
    alone = [nn.Linear(64, 32), nn.Linear(64, 16, bias=False), nn.Linear(64, 48)]
    layers = Int8Linear.together([Weights.of(layer) for layer in alone])
    some, other = torch.randn(1, 5, 64), torch.randn(1, 3, 64)
    for states in (some, other, some):
        for layer, linear in zip(layers, alone, strict=True):
            assert torch.equal(layer(states), Int8Linear.of(linear)(states))
    first = layers[0](some)  # a pass that broke off in between
    assert torch.equal(layers[0](other), Int8Linear.of(alone[0])(other))
    assert torch.equal(layers[1](other), Int8Linear.of(alone[1])(other))
    assert torch.equal(layers[0](some), first)


@pytest.mark.parametrize("kind", KINDS)
def test_every_linear_layer_and_the_head(kind: str) -> None:
    """Logits of random weights, the worst case, are off by less than a third of their spread."""
    exact, model = tiny_model(kind), int8.quantise(tiny_model(kind))
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    assert isinstance(model.get_output_embeddings(), Int8Linear)
    for seed in range(5):
        ours, wanted = (next_logits(one, prompt(30, seed)) for one in (model, exact))
        assert float((ours - wanted).std() / wanted.std()) < 0.33


async def test_the_engine_samples_from_an_int8_model(tmp_path: Path) -> None:
    tiny_model("qwen2").save_pretrained(tmp_path)
    config = ModelConfig(path=str(tmp_path), device="cpu", dtype="int8", threads=1)
    async with load(config) as engine:
        assert engine.capabilities.dtype == "int8"
        said = await say(engine, "a", prompt(9), greedy(6))
        model = engine.model
    for place, token in enumerate(said.ids):
        assert token == int(next_logits(model, [*prompt(9), *said.ids[:place]]).argmax())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
async def test_company_in_a_step_changes_no_token(kind: str) -> None:
    """Attention's noise of 1e-6 may move a value to the next of its 127 steps, and a logit by a little."""
    model = int8.quantise(tiny_model(kind))
    prompts = [prompt(length, length) for length in (3, 9, 17, 30, 41, 64)]

    async def sampled(together: bool) -> list[Said]:
        async with TransformersEngine(model) as engine:
            rows = [say(engine, f"{n}", ids, params(30, n)) for n, ids in enumerate(prompts)]
            return await asyncio.gather(*rows) if together else [await row for row in rows]

    alone, together, again = await sampled(False), await sampled(True), await sampled(True)
    assert [said.ids for said in together] == [said.ids for said in alone]
    assert [(said.ids, said.logprobs) for said in together] == [
        (said.ids, said.logprobs) for said in again
    ]
    for one, other in zip(alone, together, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=0.05)


@pytest.mark.parametrize(
    ("dtype", "smallest", "expected"),
    [("auto", 10_000, True), ("auto", 10_000_000, False), ("float32", 10_000, False),
     ("int8", 10_000_000, True)],
)  # fmt: skip
def test_which_models_are_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, smallest: int, expected: bool
) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    monkeypatch.setattr("solver.engines.loading.INT8_FROM", smallest)
    model = load_model(ModelConfig(path=str(tmp_path), device="cpu", dtype=dtype))
    assert int8.is_int8(model) is expected
    assert model.dtype == torch.float32  # what is not a linear layer, and the cache


@pytest.mark.parametrize(("smallest", "said"), [(10_000, 1), (10**9, 0)])
async def test_int8_by_itself_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, smallest: int, said: int
) -> None:
    monkeypatch.setattr("solver.engines.loading.INT8_FROM", smallest)
    lines: list[str] = []
    settings = load_config(overrides={"prune.scorer": "none", "sandbox.spares": 0})
    async with services(
        settings,
        record=lambda event: None,
        started_at=time.monotonic(),
        stopping=asyncio.Event(),
        say=lines.append,
    ) as opened:
        assert (opened.engine.capabilities.dtype == "int8") is bool(said)
    assert len([line for line in lines if "8 bits" in line and "float32" in line]) == said


def test_vllm_has_no_int8() -> None:
    with pytest.raises(ConfigError, match="dtype int8 is the in-process engine's"):
        load_config(overrides={"model.engine": "vllm", "model.dtype": "int8"})


def test_int8_without_kernels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    monkeypatch.setattr("solver.engines.loading.int8_available", lambda: False)
    with pytest.raises(ModelError, match="float32"):
        load_model(ModelConfig(path=str(tmp_path), device="cpu", dtype="int8"))


def test_a_stop_adapter_over_int8_layers() -> None:
    """Trained beside float layers, it fits; rows that are not [STOP] keep their bits."""
    exact = tiny_model("llama")
    adapter = StopAdapter.fresh(exact, [190, 191])
    for delta in adapter.delta_by_path.values():
        nn.init.normal_(delta.lora_B, std=0.02)
    model = int8.quantise(tiny_model("llama"))
    ids = torch.tensor([[*prompt(20), 190, 191]])
    ids[0, :20].clamp_(max=189)
    with torch.no_grad():
        before = model.base_model(ids[:, :20]).last_hidden_state
        with StopGate.attach(model, adapter):
            state = model.base_model(ids).last_hidden_state[0]
        with StopGate.attach(exact, adapter):
            wanted = exact.base_model(ids).last_hidden_state[0]
    assert torch.allclose(state[:20], before[0], atol=1e-6)
    near = torch.nn.functional.cosine_similarity(state[-1], wanted[-1], dim=0)
    assert float(near) > 0.97
