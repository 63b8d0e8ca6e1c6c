"""Linear layers in 8 bits on a CPU: weights per channel, activations per row, everything else as it is.

The product is fbgemm's, which torch carries with it: no compiler and no further package is needed.
fbgemm takes one scale for all rows of a product. A scale of all rows' own would let a row's company
change its numbers, so every row is divided by its own scale before and multiplied by it afterwards;
within the product the scale is 1. Sums are integers and exact: a row comes out with the same bits
whatever stands beside it.

Weights have 7 of their 8 bits: without VNNI, fbgemm adds pairs of products in 16 bits, and two products of
8 bits by 8 bits may not fit into those. Activations need the bit more, for some of theirs are far larger than
the rest.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_HALF = 127  # activations lie in [-127, 127]
_WEIGHTS = 63  # 2 * 63 * (127 + 128) fits into 16 bits with a sign
_ROWS_AT_ONCE = 8192  # weights are quantised so many channels at a time, to spare memory

Rows = Callable[[int, int], Tensor]  # from, to: those rows of a weight `[outputs, inputs]`


def available() -> bool:
    """Whether this machine's torch has the kernels: x86 builds have."""
    return "fbgemm" in torch.backends.quantized.supported_engines


class Int8Linear(nn.Module):
    """`x @ weight.T + bias` of `[..., inputs]` in float32, the weight in 8 bits."""

    def __init__(self, inputs: int, outputs: int, rows: Rows, bias: Tensor | None = None) -> None:
        """`rows(first, last)` gives float rows of the weight `[outputs, inputs]`, piece by piece."""
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.bias: Tensor | None
        self.register_buffer("bias", None if bias is None else bias.detach().float().clone())
        values = torch.empty(outputs, inputs, dtype=torch.int8)
        scales = torch.empty(outputs, dtype=torch.float64)
        for first in range(0, outputs, _ROWS_AT_ONCE):
            part = slice(first, min(first + _ROWS_AT_ONCE, outputs))
            some = rows(part.start, part.stop).float()
            scale = some.abs().amax(-1).clamp_(min=1e-12) / _WEIGHTS
            values[part] = some.div_(scale[:, None]).round_().to(torch.int8)
            scales[part] = scale.double()
        self._packed: Any = _pack(values, scales)

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """The same layer in 8 bits."""
        weight = linear.weight.detach()
        return cls(
            linear.in_features,
            linear.out_features,
            lambda first, last: weight[first:last].float().clone(),
            linear.bias,
        )

    def forward(self, states: Tensor) -> Tensor:
        """`[..., inputs]` to `[..., outputs]`, float32."""
        rows = states.reshape(-1, self.in_features).float()
        scale = torch.linalg.vector_norm(rows, float("inf"), -1, keepdim=True)
        scale = scale.clamp_(min=1e-12).div_(_HALF)
        product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            rows / scale, 1.0, _HALF + 1, self._packed
        )
        if self.bias is None:
            product *= scale
        else:
            product = torch.addcmul(self.bias, product, scale)
        result: Tensor = product.view(*states.shape[:-1], self.out_features)
        return result

    def extra_repr(self) -> str:
        """The shape, for printing a model."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


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
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear.of(child))
    return model.float()
