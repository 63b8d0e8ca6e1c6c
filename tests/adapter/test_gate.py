from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from solver.adapter.gate import StopAdapter, StopGate, target_modules
from solver.adapter.score import (
    encode_prefixes,
    score_prefixes,
    stop_states,
)
from solver.adapter.spec import Handshake
from solver.errors import ModelError
from tests.support.tiny_models import STOP_IDS, loud_adapter, prefixes_of, tiny_model

ALL_LINEAR = ("llama", "qwen3", "gpt_oss")


def logits_of(model: Any, ids: list[list[int]], **options: Any) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor(ids), **options).logits
    return logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_base_logits_keep_their_bits(architecture: str, dtype: torch.dtype) -> None:
    model = tiny_model(architecture, dtype)
    batch = prefixes_of(12, 12, 12)
    cached, uncached = DynamicCache(), DynamicCache()
    bare = logits_of(model, batch)
    bare_steps = [logits_of(model, part, past_key_values=uncached) for part in _cut(batch)]
    with StopGate.attach(model, loud_adapter(model)):
        assert torch.equal(logits_of(model, batch), bare)
        for part, expected in zip(_cut(batch), bare_steps, strict=True):
            assert torch.equal(logits_of(model, part, past_key_values=cached), expected)
    assert torch.equal(logits_of(model, batch), bare)


def _cut(batch: list[list[int]]) -> list[list[list[int]]]:
    return [[row[:7] for row in batch], *[[[row[i]] for row in batch] for i in range(7, 12)]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral"])
def test_rows_beside_stop_keep_their_bits(architecture: str, dtype: torch.dtype) -> None:
    """The same batch with and without the gate: only [STOP] rows may differ."""
    model = tiny_model(architecture, dtype)
    first, second = prefixes_of(9, 13)
    batch = [[*first, *STOP_IDS], second]
    bare = logits_of(model, batch)
    with StopGate.attach(model, loud_adapter(model)):
        gated = logits_of(model, batch)
    assert torch.equal(gated[0, :9], bare[0, :9])
    assert torch.equal(gated[1], bare[1])
    assert not torch.allclose(gated[0, 9:], bare[0, 9:], atol=0.1)


def test_a_mixture_keeps_rows_up_to_the_grouping_of_experts() -> None:
    """An expert's matrix product depends in its last bits on how many rows it gets, gate or not."""
    model = tiny_model("gpt_oss")
    first, second = prefixes_of(9, 13)
    batch = [[*first, *STOP_IDS], second]
    bare = logits_of(model, batch)
    with StopGate.attach(model, loud_adapter(model)):
        gated = logits_of(model, batch)
    assert torch.allclose(gated[0, :9], bare[0, :9], atol=1e-5)
    assert torch.allclose(gated[1], bare[1], atol=1e-5)


def merged(model: Any, adapter: StopAdapter) -> Any:
    """An independent model: deltas merged into weights, learned rows in the embedding table."""
    other = copy.deepcopy(model)
    scale = adapter.alpha / adapter.rank
    with torch.no_grad():
        for path, delta in adapter.delta_by_path.items():
            other.get_submodule(path).weight += scale * delta.lora_B @ delta.lora_A
        for row, token in enumerate(adapter.distinct_ids):
            other.get_input_embeddings().weight[token] = adapter.embeddings[row]
    return other


def two_pass(model: Any, adapter: StopAdapter, prefix: list[int]) -> float:
    """The definition: the base model reads the prefix, the adapted one reads [STOP] over its cache."""
    cache = DynamicCache()
    with torch.no_grad():
        model.base_model(torch.tensor([prefix]), past_key_values=cache, use_cache=True)
        hidden = (
            merged(model, adapter)
            .base_model(
                input_ids=torch.tensor([list(adapter.stop_token_ids)]),
                past_key_values=cache,
                use_cache=True,
            )
            .last_hidden_state
        )
        return float(hidden[0, -1] @ adapter.head.weight + adapter.head.bias)


@pytest.mark.parametrize("stop_ids", [STOP_IDS, (38, 38, 38)], ids=["four", "repeated"])
def test_one_pass_equals_two_passes(architecture: str, stop_ids: tuple[int, ...]) -> None:
    model = tiny_model(architecture)
    adapter = loud_adapter(model, stop_ids)
    prefixes = prefixes_of(3, 9, 14)
    expected = torch.tensor([two_pass(model, adapter, prefix) for prefix in prefixes])
    with StopGate.attach(model, adapter) as gate:
        cached = score_prefixes(model, gate, prefixes)
        in_full = score_prefixes(model, gate, prefixes, cached=False)
    assert torch.allclose(cached, expected, atol=1e-5, rtol=0)
    assert torch.allclose(in_full, expected, atol=1e-5, rtol=0)
    assert expected.std() > 1e-2


@pytest.mark.parametrize("architecture", ALL_LINEAR)
def test_all_linear_layers(architecture: str) -> None:
    model = tiny_model(architecture)
    adapter = loud_adapter(model, targets="all-linear")
    suffixes = {path.rpartition(".")[2] for path in adapter.delta_by_path}
    assert {"q_proj", "k_proj", "v_proj", "o_proj"} <= suffixes and "lm_head" not in suffixes
    prefix = prefixes_of(10)[0]
    with StopGate.attach(model, adapter) as gate:
        score = score_prefixes(model, gate, [prefix])
    assert float(score[0]) == pytest.approx(two_pass(model, adapter, prefix), abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6), batch_size=st.integers(1, 6))
def test_a_ragged_batch_equals_one_by_one(lengths: list[int], batch_size: int) -> None:
    model = tiny_model("mistral")  # its sliding window is where padding could go wrong
    prefixes = prefixes_of(*lengths)
    with StopGate.attach(model, loud_adapter(model)) as gate:
        together = score_prefixes(model, gate, prefixes, batch_size=batch_size)
        apart = torch.cat([score_prefixes(model, gate, [prefix]) for prefix in prefixes])
    assert torch.allclose(together, apart, atol=1e-5, rtol=0)


def test_a_ragged_batch_in_every_architecture(architecture: str) -> None:
    model = tiny_model(architecture)
    prefixes = prefixes_of(2, 11, 5, 17)
    with StopGate.attach(model, loud_adapter(model)) as gate:
        together = score_prefixes(model, gate, prefixes)
        apart = torch.cat([score_prefixes(model, gate, [prefix]) for prefix in prefixes])
    assert torch.allclose(together, apart, atol=1e-5, rtol=0)


def test_packed_rows_are_gated_by_their_ids() -> None:
    """An engine packs requests into `[1, T]`: a generating row beside a scored one feels nothing."""
    model = tiny_model("llama")
    scored, generating = prefixes_of(6, 9)
    rows = [[*scored, *STOP_IDS], generating]
    ids = torch.tensor([[token for part in rows for token in part]])
    owners = torch.tensor([row for row, part in enumerate(rows) for _ in part])
    positions = torch.tensor([[place for part in rows for place in range(len(part))]])
    visible = (owners[:, None] == owners) & torch.ones(len(owners), len(owners)).tril().bool()
    mask = torch.zeros(1, 1, *visible.shape).masked_fill(~visible, float("-inf"))
    options = {"input_ids": ids, "position_ids": positions, "attention_mask": mask}
    with torch.inference_mode():
        bare = model(**options).logits
        with StopGate.attach(model, loud_adapter(model)) as gate:
            gated = model(**options).logits
            state = model.base_model(**options).last_hidden_state[0, 9]
            logit = gate.adapter.head(state)
            expected = score_prefixes(model, gate, [scored])
    assert torch.equal(gated[0, :6], bare[0, :6]) and torch.equal(gated[0, 10:], bare[0, 10:])
    assert float(logit) == pytest.approx(float(expected[0]), abs=1e-5)


def test_gradients_reach_the_adapter_only() -> None:
    model = tiny_model("qwen2")
    adapter = loud_adapter(model)
    with StopGate.attach(model, adapter):
        caches = encode_prefixes(model, prefixes_of(4, 9))
        adapter.head(stop_states(model, STOP_IDS, caches)).sum().backward()
    grads = {name: parameter.grad for name, parameter in adapter.named_parameters()}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads.values())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_stored_caches_are_not_changed() -> None:
    model = tiny_model("llama")
    caches = encode_prefixes(model, prefixes_of(4, 9))
    copies = [cache.clone() for cache in caches]
    with StopGate.attach(model, loud_adapter(model)):
        stop_states(model, STOP_IDS, caches)
    assert all(torch.equal(a, b) for a, b in zip(caches, copies, strict=True))


def test_a_failed_pass_is_forgotten_and_detach_is_complete() -> None:
    model = tiny_model("llama")
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    gate = StopGate.attach(model, loud_adapter(model))
    with pytest.raises(Exception, match=r".*"):
        model.base_model(torch.tensor([[2, *STOP_IDS]]), attention_mask="nonsense")
    plain = model.get_input_embeddings()(torch.tensor([36]))
    assert torch.equal(plain[0], model.get_input_embeddings().weight[36])
    assert model.base_model(inputs_embeds=torch.zeros(1, 2, 32)).last_hidden_state.isfinite().all()
    gate.detach()
    gate.detach()
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_refusals() -> None:
    model, other = tiny_model("llama"), tiny_model("gpt_oss")
    with pytest.raises(ModelError, match=r"id 40 is beyond the model's vocabulary of 40 ids"):
        StopGate.attach(model, loud_adapter(model, (39, 40)))
    with pytest.raises(ModelError, match=r"no linear layer named 'w_proj'"):
        target_modules(model, ["q_proj", "w_proj"])
    with pytest.raises(ModelError, match=r"changes model\.layers\.0\.mlp\.up_proj"):
        StopGate.attach(other, loud_adapter(model, targets=["up_proj"]))
    with pytest.raises(ModelError, match="at least one"):
        loud_adapter(model, ())
    wide = StopAdapter(STOP_IDS, 64, {}, 4, 8.0)
    with pytest.raises(ModelError, match="hidden size is 64, the model's 32"):
        StopGate.attach(model, wide)
    shape = StopAdapter(STOP_IDS, 32, {"model.layers.0.self_attn.q_proj": (32, 16)}, 4, 8.0)
    with pytest.raises(ModelError, match=r"q_proj is \(32, 16\), not \(32, 32\)"):
        StopGate.attach(model, shape)
    with StopGate.attach(model, loud_adapter(model)) as gate:
        with pytest.raises(
            ModelError, match=r"already has a STOP adapter.* id 36: detach it first"
        ):
            StopGate.attach(model, loud_adapter(model))
        with pytest.raises(ModelError, match="banned in generation"):
            score_prefixes(model, gate, [[2, 36]])
        with pytest.raises(ModelError, match="empty prefix"):
            score_prefixes(model, gate, [[]])
        with pytest.raises(ModelError, match="beyond the model's vocabulary of 40"):
            score_prefixes(model, gate, [[2, 40]])


def test_two_adapters_with_ids_of_their_own_do_not_disturb_each_other() -> None:
    model, prefixes = tiny_model("llama"), prefixes_of(8, 5)
    adapters = [loud_adapter(model, (36, 37)), loud_adapter(model, (38, 39))]
    adapters[1].head.weight.data.neg_()
    alone = []
    for adapter in adapters:
        with StopGate.attach(model, adapter) as gate:
            alone.append(score_prefixes(model, gate, prefixes))
    with StopGate.attach(model, adapters[0]) as one, StopGate.attach(model, adapters[1]) as other:
        both = [score_prefixes(model, gate, prefixes) for gate in (one, other)]
    assert all(map(torch.equal, alone, both))
    assert not torch.equal(*alone)


def test_the_handshake_tells_another_model() -> None:
    model = tiny_model("llama")
    prefix = tuple(prefixes_of(8)[0])
    with StopGate.attach(model, loud_adapter(model)) as gate:
        logit = float(score_prefixes(model, gate, [prefix])[0])
    known = Handshake(prefix_token_ids=prefix, logit=logit, dtype="float32")
    assert known.agrees(logit, "float32")
    assert not known.agrees(logit + 0.1, "float32")
    assert known.agrees(logit + 0.1, "bfloat16")  # its arithmetic is rougher
    assert not known.agrees(float("nan"), "bfloat16")


def test_an_untrained_adapter_is_seeded() -> None:
    model = tiny_model("llama")
    first, again, other = (StopAdapter.fresh(model, STOP_IDS, seed=s) for s in (3, 3, 4))
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(first.embeddings, other.embeddings)
    assert first.alpha == 32 and first.rank == 16
