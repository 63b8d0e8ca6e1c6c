"""Which slice of an adapter belongs to which fused, tensor-parallel layer of vLLM. Torch only.

vLLM fuses q, k and v into one layer and gate and up into another, and gives every rank a slice: of
the outputs of these (column-parallel), of the inputs of o and down (row-parallel). An adapter's layer
is a pair A `[rank, inputs]`, B `[outputs, rank]`, with the scale folded into B.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from solver.adapter.gate import LowRank
from solver.errors import ModelError

Pair = tuple[Tensor, Tensor]

FUSED = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "o_proj": "o_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
    "down_proj": "down_proj",
}
_PATH = re.compile(r"model\.layers\.(\d+)\.(?:self_attn\.[qkvo]|mlp\.(?:gate|up|down))_proj")


@dataclass(frozen=True)
class Part:
    """One projection in a fused layer: this rank holds the `shard`-th `rows` of `whole` outputs."""

    name: str
    whole: int
    rows: int
    shard: int


def by_fused_layer(deltas: Mapping[str, LowRank]) -> dict[tuple[int, str], dict[str, Pair]]:
    """The pairs of an adapter by (layer index, vLLM's name) and then by projection.

    Raises `ModelError` for a path that vLLM has no such layer for.
    """
    grouped: dict[tuple[int, str], dict[str, Pair]] = {}
    for path, delta in deltas.items():
        match = _PATH.fullmatch(path)
        if match is None:
            raise ModelError(
                f"the adapter changes {path}, which cannot be served on vLLM (only {', '.join(FUSED)} "
                "of decoder layers): train it with these --targets, or use the transformers engine"
            )
        name = path.rpartition(".")[2]
        pair = (delta.lora_A.detach(), delta.lora_B.detach() * delta.scale)
        grouped.setdefault((int(match[1]), FUSED[name]), {})[name] = pair
    return grouped


def qkv_parts(heads: int, kv_heads: int, head_size: int, rank: int, size: int) -> list[Part]:
    """q, k and v of rank `rank` of `size`; with fewer kv heads than ranks, neighbours share one."""
    replicas = max(1, size // kv_heads)
    kv_whole, kv_rows = kv_heads * head_size, max(1, kv_heads // size) * head_size
    return [
        Part("q_proj", heads * head_size, heads // size * head_size, rank),
        Part("k_proj", kv_whole, kv_rows, rank // replicas),
        Part("v_proj", kv_whole, kv_rows, rank // replicas),
    ]


def gate_up_parts(intermediate_size: int, rank: int, size: int) -> list[Part]:
    """gate and up of rank `rank` of `size`."""
    rows = intermediate_size // size
    return [Part(name, intermediate_size, rows, rank) for name in ("gate_proj", "up_proj")]


def fuse(parts: Sequence[Part], pairs: Mapping[str, Pair]) -> Pair:
    """One pair for a rank's fused layer: A `[sum of ranks, inputs]`, B `[its outputs, sum of ranks]`.

    B is block-diagonal, and zero for a projection without a pair.
    """
    a = torch.cat([pairs[part.name][0] for part in parts if part.name in pairs])
    b = a.new_zeros(sum(part.rows for part in parts), len(a))
    row = column = 0
    for part in parts:
        if part.name in pairs:
            whole = pairs[part.name][1]
            block = b[row : row + part.rows, column : column + whole.shape[1]]
            block.copy_(whole[part.shard * part.rows : (part.shard + 1) * part.rows])
            column += whole.shape[1]
        row += part.rows
    return a, b


def check_shapes(pairs: Mapping[str, Pair], inputs: int, outputs: Mapping[str, int]) -> None:
    """Raise `ModelError` unless every pair maps `inputs` to its projection's `outputs`."""
    for name, (a, b) in pairs.items():
        found, needed = (a.shape[1], b.shape[0]), (inputs, outputs[name])
        if found != needed:
            raise ModelError(f"the adapter's shape at a {name} is {found}, the model's {needed}")


def slice_inputs(pair: Pair, rank: int, size: int) -> Pair:
    """The pair of a row-parallel layer: the ranks' `A x` add up to the whole one, B is whole."""
    a, b = pair
    inputs = a.shape[1] // size
    return a[:, rank * inputs : (rank + 1) * inputs], b
