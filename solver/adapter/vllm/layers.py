"""The adapter on vLLM's layers: buffers and forward hooks, which `torch.compile` traces like the layers.

Every hook works on all rows of a step and chooses by `stop_rows`, a buffer `[rows, 1]` that the model's
`forward` fills. The buffer's address never changes, so a captured CUDA graph sees the rows of its own
step, and on a GPU and in compiled code no branch depends on the data. Rows that read no [STOP] id keep
their bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from vllm.distributed import tensor_model_parallel_all_reduce

from solver.adapter.gate import StopAdapter
from solver.adapter.vllm.slices import (
    Pair,
    by_fused_layer,
    check_shapes,
    fuse,
    gate_up_parts,
    qkv_parts,
    slice_inputs,
)
from solver.errors import ModelError


def install(model: Any, adapter: StopAdapter, dtype: torch.dtype, device: torch.device) -> None:
    """Put `adapter` on a model that has `stop_rows` and `stop_slots`. Raises `ModelError`.

    The deltas and embeddings compute in the model's precision, as vLLM's own adapters do.
    """
    inner = model.model
    table = inner.embedding if hasattr(inner, "embedding") else inner.embed_tokens
    learned = F.pad(adapter.embeddings.detach(), (0, 0, 1, 0)).to(device, dtype)  # slot 0 is none
    shared = {"stop_rows": model.stop_rows, "stop_any": model.stop_any}
    keep(table, **shared, stop_slots=model.stop_slots, stop_embeddings=learned)
    table.register_forward_hook(_embed)
    for (index, name), pairs in by_fused_layer(adapter.delta_by_path).items():
        layer = _find(inner, index, name)
        a, b = (half.to(device, dtype) for half in _slice(layer, name, pairs))
        keep(layer, **shared, stop_a=a.contiguous(), stop_b=b.T.contiguous())
        layer.register_forward_hook(_row_parallel if name in ("o_proj", "down_proj") else _project)


def keep(module: Any, **buffers: Tensor) -> None:
    """Buffers, so that compiled graphs take them as inputs; loading and saving do not see them."""
    for name, tensor in buffers.items():
        module.register_buffer(name, tensor, persistent=False)


def on_host(tensor: Tensor) -> bool:
    """Whether Python may look into it at no cost: on a CPU, outside compiled code."""
    return not torch.compiler.is_compiling() and tensor.device.type == "cpu"


def quiet(module: Any) -> bool:
    """Whether this step is known to have no [STOP] row, which saves an eager CPU the adapter's work."""
    return on_host(module.stop_any) and not module.stop_any


def _find(inner: Any, index: int, name: str) -> Any:
    block = inner.layers[index] if index < len(inner.layers) else None
    attention = getattr(block, "attn", None) or getattr(block, "self_attn", None)
    owner = attention if name in ("qkv_proj", "o_proj") else getattr(block, "mlp", None)
    if (layer := getattr(owner, name, None)) is None:
        raise ModelError(
            f"the adapter changes {name} of layer {index}, which this model has not in vLLM (experts "
            "cannot be adapted): train it with --targets q_proj,v_proj"
        )
    return layer


def _slice(layer: Any, name: str, pairs: Mapping[str, Pair]) -> Pair:
    rank, size = layer.tp_rank, layer.tp_size
    if name in ("o_proj", "down_proj"):
        check_shapes(pairs, layer.input_size, {name: layer.output_size})
        return slice_inputs(pairs[name], rank, size)
    if name == "qkv_proj":
        heads, kv_heads = layer.total_num_heads, layer.total_num_kv_heads
        parts = qkv_parts(heads, kv_heads, layer.head_size, rank, size)
    else:
        parts = gate_up_parts(layer.output_sizes[0], rank, size)
    check_shapes(pairs, layer.input_size, {part.name: part.whole for part in parts})
    return fuse(parts, pairs)


def _embed(module: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    if quiet(module):
        return output
    count = len(output)
    learned = F.embedding(module.stop_slots[:count], module.stop_embeddings)
    # `where` and not a product: x + 0 * delta is not always x, bit for bit.
    return torch.where(module.stop_rows[:count], learned, output)


def _project(module: Any, inputs: tuple[Any], output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    if quiet(module):
        return output
    return _changed(module, F.linear(_states(inputs), module.stop_a), output)


def _row_parallel(
    module: Any, inputs: tuple[Any], output: tuple[Tensor, Any]
) -> tuple[Tensor, Any]:
    if quiet(module):
        return output
    low = F.linear(_states(inputs), module.stop_a)
    if module.tp_size > 1:  # every rank has a slice of the inputs, and the whole output already
        low = tensor_model_parallel_all_reduce(low)
    return _changed(module, low, output)


def _states(inputs: tuple[Any]) -> Tensor:
    if not isinstance(inputs[0], Tensor):
        raise ModelError(
            "this quantised model hands down_proj a quantised input, which an adapter on it cannot "
            "read: train it with other --targets"
        )
    return inputs[0]


def _changed(module: Any, low: Tensor, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    states, bias = output
    changed = torch.addmm(states, low, module.stop_b)
    return torch.where(module.stop_rows[: len(states)], changed, states), bias
