"""Linear layers in 8 bits on a CPU: weights per channel, activations per row, everything else as it is.

The product is fbgemm's, which torch carries with it: no compiler and no further package is needed.
fbgemm takes one scale for all rows of a product. A scale of all rows' own would let a row's company
change its numbers, so every row is divided by its largest value before and multiplied by it afterwards;
within the product the scale is always the same. Sums are integers and exact: a row comes out with the
same bits whatever stands beside it.

Weights have 7 of their 8 bits: without VNNI, fbgemm adds pairs of products in 16 bits, and two products of
8 bits by 8 bits may not fit into those. Activations need the bit more, for some of theirs are far larger than
the rest.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

_HALF = 127  # activations lie in [-127, 127]
_WEIGHTS = 63  # 2 * 63 * (127 + 128) fits into 16 bits with a sign
_ROWS_AT_ONCE = 8192  # weights are quantised so many channels at a time, to spare memory

_SAME_STATES = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))

Rows = Callable[[int, int], Tensor]  # from, to: those rows of a weight `[outputs, inputs]`


def available() -> bool:
    """Whether this machine's torch has the kernels: x86 builds have."""
    return "fbgemm" in torch.backends.quantized.supported_engines


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear layer's: `rows(first, last)` gives some of `[outputs, inputs]` as floats."""

    inputs: int
    outputs: int
    rows: Rows
    bias: Tensor | None = None

    @classmethod
    def of(cls, linear: nn.Linear) -> Weights:
        """Those of a layer as it is."""
        weight = linear.weight.detach()

        def rows(first: int, last: int) -> Tensor:
            return weight[first:last].float().clone()

        return cls(linear.in_features, linear.out_features, rows, linear.bias)


class Int8Linear(nn.Module):
    """`x @ weight.T + bias` of `[..., inputs]` in float32, the weight in 8 bits."""

    def __init__(self, product: _Product, first: int, last: int) -> None:
        """Use `of` or `together`."""
        super().__init__()
        self.in_features, self.out_features = product.inputs, last - first
        self._product, self._part = product, slice(first, last)

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """The same layer in 8 bits."""
        [layer] = cls.together([Weights.of(linear)])
        return layer

    @classmethod
    def together(cls, layers: Sequence[Weights]) -> list[Int8Linear]:
        """Layers that are called one after the other with the same states: one product for all.

        With few rows a product takes as long to prepare as to compute.
        """
        product = _Product(layers)
        ends = list(accumulate(layer.outputs for layer in layers))
        return [
            cls(product, end - layer.outputs, end) for layer, end in zip(layers, ends, strict=True)
        ]

    def forward(self, states: Tensor) -> Tensor:
        """`[..., inputs]` to `[..., outputs]`, float32."""
        return self._product(states)[..., self._part]

    def extra_repr(self) -> str:
        """The shape, for printing a model."""
        return f"{self.in_features}, {self.out_features}"


class _Product:
    """The product of some layers' common states with all of their weights."""

    def __init__(self, layers: Sequence[Weights]) -> None:
        self.inputs = layers[0].inputs
        self._readers = len(layers)
        self._unread = 0
        self._states: Tensor | None = None
        self._result: Tensor | None = None
        outputs = sum(layer.outputs for layer in layers)
        values = torch.empty(outputs, self.inputs, dtype=torch.int8)
        scales = torch.empty(outputs, dtype=torch.float64)
        end = 0
        for layer in layers:
            start, end = end, end + layer.outputs
            _quantise_rows(layer, values[start:end], scales[start:end])
        self._packed: Any = _pack(values, scales)
        self._bias: Tensor | None = None
        if any(layer.bias is not None for layer in layers):
            biases = [
                torch.zeros(layer.outputs) if layer.bias is None else layer.bias.detach().float()
                for layer in layers
            ]
            self._bias = torch.cat(biases)

    def __call__(self, states: Tensor) -> Tensor:
        """`[..., outputs of all layers]`; kept until every layer has read its part."""
        if states is not self._states or self._result is None:
            self._states, self._result = states, self._multiply(states)
            self._unread = self._readers
        result = self._result
        self._unread -= 1
        if self._unread == 0:
            self._states = self._result = None
        return result

    def _multiply(self, states: Tensor) -> Tensor:
        rows = states.reshape(-1, self.inputs).float()
        # abs and amax: the infinity norm takes six times as long
        scale = rows.abs().amax(-1, keepdim=True).clamp_(min=1e-12)
        product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            rows / scale, 1 / _HALF, _HALF + 1, self._packed
        )
        if self._bias is None:
            product *= scale
        else:
            product = torch.addcmul(self._bias, product, scale)
        return product.view(*states.shape[:-1], -1)


def _quantise_rows(layer: Weights, values: Tensor, scales: Tensor) -> None:
    """Write a layer's 8-bit `[outputs, inputs]` values and their `[outputs]` scales."""
    for first in range(0, layer.outputs, _ROWS_AT_ONCE):
        part = slice(first, min(first + _ROWS_AT_ONCE, layer.outputs))
        some = layer.rows(part.start, part.stop).float()
        scale = some.abs().amax(-1).clamp_(min=1e-12) / _WEIGHTS
        values[part] = some.div_(scale[:, None]).round_().to(torch.int8)
        scales[part] = scale.double()


def _pack(values: Tensor, scales: Tensor) -> Any:
    zeros = torch.zeros(len(values), dtype=torch.long)
    former = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"  # decides who packs, and with it who multiplies
    try:
        with warnings.catch_warnings():  # tensors of quantised types are deprecated; packing is not
            warnings.simplefilter("ignore")
            quantised = torch._make_per_channel_quantized_tensor(values, scales, zeros, 0)
            return torch.ops.quantized.linear_prepack(quantised, None)
    finally:
        torch.backends.quantized.engine = former


def is_int8(model: Any) -> bool:
    """Whether a model has linear layers in 8 bits."""
    return any(isinstance(module, Int8Linear) for module in model.modules())


def quantise(model: Any) -> Any:
    """Put 8-bit layers in the place of every linear layer of a model, the head included.

    What is not a linear layer becomes float32. The layers' float weights are let go one by one.
    """
    replace_linear_layers(model, lambda _, linear: Weights.of(linear))
    return model.float()


def replace_linear_layers(model: Any, weights: Callable[[str, nn.Linear], Weights]) -> None:
    """Put 8-bit layers of these weights (of a layer's path and itself) in the place of every linear one."""
    for owner_path, owner in list(model.named_modules()):
        linear = {n: child for n, child in owner.named_children() if isinstance(child, nn.Linear)}
        prefix = f"{owner_path}." if owner_path else ""
        for names in _groups(list(linear)):
            made = [weights(f"{prefix}{name}", linear[name]) for name in names]
            for name, layer in zip(names, Int8Linear.together(made), strict=True):
                setattr(owner, name, layer)


def _groups(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The names of a module's layers, those that read the same states together."""
    together = [group for group in _SAME_STATES if set(group) <= set(names)]
    alone = [(name,) for name in names if not any(name in group for group in together)]
    return [*together, *alone]
