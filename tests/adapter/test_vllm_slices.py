"""Ranks together compute what the whole adapter does, for every division of the heads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from solver.adapter.gate import LowRank
from solver.adapter.vllm.slices import (
    Pair,
    Part,
    by_fused_layer,
    check_shapes,
    fuse,
    gate_up_parts,
    qkv_parts,
    slice_inputs,
)
from solver.errors import ModelError

HIDDEN, HEAD, RANK = 12, 4, 3
STATES = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def pair(inputs: int, outputs: int, seed: int) -> Pair:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((RANK, inputs), (outputs, RANK))
    a, b = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    return a, b


def apply(pair: Pair, states: Tensor) -> Tensor:
    return states @ pair[0].T @ pair[1].T


def split(parts: list[Part], output: Tensor) -> dict[str, Tensor]:
    pieces = output.split([part.rows for part in parts], dim=1)
    return {part.name: piece for part, piece in zip(parts, pieces, strict=True)}


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size"),
    [
        *((8, 8, size) for size in (1, 2, 4, 8)),
        *((8, 2, size) for size in (1, 2, 4, 8)),  # shared by 2 and 4 ranks
        *((16, 1, size) for size in (1, 2, 8)),
        *((64, 8, size) for size in (1, 4, 8)),  # gpt-oss
    ],
)
def test_every_head_gets_its_own_delta(heads: int, kv_heads: int, size: int) -> None:
    pairs = {
        "q_proj": pair(HIDDEN, heads * HEAD, 1),
        "k_proj": pair(HIDDEN, kv_heads * HEAD, 2),
        "v_proj": pair(HIDDEN, kv_heads * HEAD, 3),
    }
    whole = {name: apply(p, STATES).unflatten(1, (-1, HEAD)) for name, p in pairs.items()}
    for rank in range(size):
        parts = qkv_parts(heads, kv_heads, HEAD, rank, size)
        found = split(parts, apply(fuse(parts, pairs), STATES))
        local = heads // size
        q = found["q_proj"].unflatten(1, (-1, HEAD))
        torch.testing.assert_close(q, whole["q_proj"][:, rank * local : (rank + 1) * local])
        # Attention's own rule: a rank's query heads share its kv heads in order, and globally too.
        for name in ("k_proj", "v_proj"):
            kv = found[name].unflatten(1, (-1, HEAD))
            for head in range(local):
                mine = kv[:, head * kv.shape[1] // local]
                global_kv = (rank * local + head) * kv_heads // heads
                torch.testing.assert_close(mine, whole[name][:, global_kv])


@pytest.mark.parametrize("adapted", [("q_proj",), ("v_proj",), ("k_proj", "q_proj")])
def test_projections_without_a_pair_are_not_changed(adapted: tuple[str, ...]) -> None:
    parts = qkv_parts(4, 2, HEAD, 1, 2)
    shapes = {part.name: part.whole for part in parts}
    pairs = {name: pair(HIDDEN, shapes[name], 5) for name in adapted}
    a, b = fuse(parts, pairs)
    assert a.shape == (RANK * len(adapted), HIDDEN)
    for name, change in split(parts, apply((a, b), STATES)).items():
        assert bool(change.any()) == (name in adapted)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_gate_and_up_ranks_make_up_the_whole(size: int) -> None:
    pairs = {"gate_proj": pair(HIDDEN, 16, 1), "up_proj": pair(HIDDEN, 16, 2)}
    ranks = []
    for rank in range(size):
        parts = gate_up_parts(16, rank, size)
        ranks.append(split(parts, apply(fuse(parts, pairs), STATES)))
    for name, whole in pairs.items():
        torch.testing.assert_close(torch.cat([r[name] for r in ranks], 1), apply(whole, STATES))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_row_parallel_ranks_add_up_before_b(size: int) -> None:
    whole = pair(HIDDEN, 7, 1)
    slices = [slice_inputs(whole, rank, size) for rank in range(size)]
    inputs = STATES.chunk(size, dim=1)
    low = torch.stack([x @ a.T for x, (a, _) in zip(inputs, slices, strict=True)]).sum(0)
    for _, b in slices:
        torch.testing.assert_close(low @ b.T, apply(whole, STATES))


def test_paths_are_grouped_by_the_layers_of_vllm_with_the_scale_in_b() -> None:
    names = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj")
    deltas = {f"model.layers.11.{name}": LowRank(4, 6, 2, scale=2.0) for name in names}
    for delta in deltas.values():
        torch.nn.init.normal_(delta.lora_B)
    grouped = by_fused_layer(deltas)
    assert {key: sorted(pairs) for key, pairs in grouped.items()} == {
        (11, "qkv_proj"): ["q_proj", "v_proj"],
        (11, "o_proj"): ["o_proj"],
        (11, "gate_up_proj"): ["up_proj"],
    }
    x, delta = torch.randn(3, 4), deltas["model.layers.11.mlp.up_proj"]
    torch.testing.assert_close(
        apply(grouped[(11, "gate_up_proj")]["up_proj"], x), delta(x).detach()
    )


@pytest.mark.parametrize(
    "path",
    [
        "model.layers.0.mlp.router",
        "model.layers.0.mlp.experts.3.up_proj",
        "model.layers.0.block_sparse_moe.gate",
        "lm_head",
    ],
)
def test_layers_that_vllm_has_not_are_refused(path: str) -> None:
    with pytest.raises(ModelError, match=f"the adapter changes {path}, which cannot be served"):
        by_fused_layer({path: LowRank(4, 4, 2, 1.0)})


def test_other_shapes_are_refused() -> None:
    pairs = {"q_proj": pair(12, 16, 1)}
    check_shapes(pairs, 12, {"q_proj": 16})
    for inputs, outputs in ((12, 32), (8, 16)):
        with pytest.raises(ModelError, match="shape at a q_proj is"):
            check_shapes(pairs, inputs, {"q_proj": outputs})
