"""A GGUF file as a transformers model, filled tensor by tensor: no dense copy ever stands beside it.

In 8 bits, some rows of a matrix at a time become floats and then 8-bit weights. llama.cpp stores the rows of
a Llama's query and key layers in another order, which is undone here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from solver.engines.int8 import Rows, Weights, replace_linear_layers
from solver.errors import ModelError
from solver.files.gguf import GgufFile, gguf_name

ARCHITECTURES = ("llama", "qwen2", "qwen3")
_ROWS_AT_ONCE = 8192
_HEAD, _TABLE, _ROPE_FACTORS = "output.weight", "token_embd.weight", "rope_freqs.weight"


def gguf_settings(file: GgufFile) -> Any:
    """The transformers config of a GGUF file. Raises `ModelError` for what we cannot run."""
    kind, fields = file.architecture, file.fields
    if kind not in ARCHITECTURES:
        raise ModelError(
            f"{file.path} holds a {kind} model: the in-process engine runs GGUF files of "
            f"{', '.join(ARCHITECTURES)} models"
        )
    values = file.settings()
    theta = fields.get(f"{kind}.rope.freq_base", 10_000.0)
    values |= {
        "rms_norm_eps": fields.get(f"{kind}.attention.layer_norm_rms_epsilon", 1e-6),
        "rope_parameters": {"rope_theta": theta, **_scaling(file)},
        "tie_word_embeddings": _HEAD not in file.tensors,
        "sliding_window": fields.get(f"{kind}.attention.sliding_window"),
    }
    if kind == "llama":
        values["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    try:
        return transformers.AutoConfig.for_model(**values)
    except Exception as error:  # whatever transformers makes of unlikely numbers
        raise ModelError(f"{file.path} cannot be used: {error}".splitlines()[0]) from error


def _scaling(file: GgufFile) -> dict[str, Any]:
    """Rotary scaling in transformers' words."""
    prefix = f"{file.architecture}.rope.scaling"
    kind = file.fields.get(f"{prefix}.type", "none")
    if kind == "none":
        return {"rope_type": "default"}
    if kind not in ("linear", "yarn"):
        raise ModelError(
            f"{file.path} has {kind} rotary scaling, which GGUF files are not read with"
        )
    scaling = {"rope_type": kind, "factor": file.fields.get(f"{prefix}.factor", 1.0)}
    original = file.fields.get(f"{prefix}.original_context_length")
    return scaling | ({} if original is None else {"original_max_position_embeddings": original})


def fill(file: GgufFile, settings: Any, dtype: torch.dtype | None) -> Any:
    """The model of a GGUF file in `dtype`; None: linear layers in 8 bits, the rest in float32.

    Raises `ModelError` for a tensor that is missing, of another shape or packed in an unknown way.
    """
    auto: Any = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(settings)
    weights = _Weights(file, settings)
    if dtype is None:
        _fill_linear_layers(model, weights)
    for name, parameter in list(model.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        value = weights.whole(name, parameter.shape, dtype or torch.float32)
        setattr(model.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
        file.forget_pages()
    if dtype is not None:
        model.tie_weights()
    _restore_frequencies(model, settings, file)
    return model


def _fill_linear_layers(model: Any, weights: _Weights) -> None:
    def of(path: str, linear: nn.Linear) -> Weights:
        weights.file.forget_pages()  # those of the layers before: rows are read after this returns
        bias = None
        if linear.bias is not None:
            bias = weights.whole(f"{path}.bias", linear.bias.shape, torch.float32)
        rows = weights.rows(f"{path}.weight", linear.weight.shape)
        return Weights(linear.in_features, linear.out_features, rows, bias)

    replace_linear_layers(model, of)


class _Weights:
    """The tensors of a file by transformers' names."""

    def __init__(self, file: GgufFile, settings: Any) -> None:
        self.file, self._settings = file, settings

    def rows(self, name: str, shape: torch.Size) -> Rows:
        """Gives rows `first` to `last` of a weight. Raises `ModelError`."""
        place = self._place(name)
        tensor = self.file.tensors.get(place)
        if tensor is None:
            raise ModelError(f"{self.file.path} lacks the tensor {place}: download it again")
        if tensor.shape != tuple(shape):
            raise ModelError(
                f"the tensor {tensor.name} of {self.file.path} is {tensor.shape}, not {tuple(shape)}"
            )
        order = self._order(name, shape[0])

        def rows(first: int, last: int) -> Tensor:
            which = slice(first, last) if order is None else order[first:last]
            return torch.from_numpy(tensor.rows(which))

        return rows

    def whole(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """A tensor, a piece at a time. Raises `ModelError`."""
        rows = self.rows(name, shape)
        value = torch.empty(shape, dtype=dtype)
        for first in range(0, len(value), _ROWS_AT_ONCE):
            last = min(first + _ROWS_AT_ONCE, len(value))
            value[first:last] = rows(first, last)
        return value

    def _place(self, name: str) -> str:
        place = gguf_name(name) or name
        return _TABLE if place == _HEAD and self._settings.tie_word_embeddings else place

    def _order(self, name: str, count: int) -> NDArray[np.int64] | None:
        """Which row of the file each row of a tensor is; None: the same."""
        if self._settings.model_type != "llama":
            return None
        heads = {
            "q_proj": self._settings.num_attention_heads,
            "k_proj": self._settings.num_key_value_heads,
        }.get(name.split(".")[-2])
        if heads is None:
            return None
        # in the file the two halves of a head's rotary pairs lie side by side, not one after the other
        return np.arange(count).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


def _restore_frequencies(model: Any, settings: Any, file: GgufFile) -> None:
    """Compute anew what a model without memory could not keep: the rotary frequencies."""
    factors = file.tensors.get(_ROPE_FACTORS)
    for path, module in list(model.named_modules()):
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            fresh: Any = type(module)(config=settings)
            if factors is not None:  # long-context Llama: each frequency is divided by its own
                fresh.inv_freq /= torch.from_numpy(factors.rows())
            owner, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(owner), leaf, fresh)
