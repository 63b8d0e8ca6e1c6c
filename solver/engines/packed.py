"""One step of many rows as one forward pass: attention over packed tokens.

The tokens of a step lie in one `[1, tokens]` sequence: first one token of each decoding row (slots
0, 1, ...), then the spans of rows that are being encoded. Everything but attention treats tokens
one by one; attention writes the new keys and values into the arena and lets every token see its own
row. It is registered with transformers' `AttentionInterface`; nothing is patched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from solver.engines.arena import Arena

ATTENTION = "solver_packed"  # no mask is registered under this name, so transformers builds none
_ROWS_AT_ONCE = 8  # decoding rows that a CPU attends with together, as far as the longest of them


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive new ids of one row: `ids` come after the `start` tokens that `slot` already holds."""

    slot: int
    start: int
    ids: Sequence[int]

    @property
    def end(self) -> int:
        """Tokens the row holds after this step."""
        return self.start + len(self.ids)


@dataclass(frozen=True, slots=True)
class Decoding:
    """Rows of neighbouring slots that decode together: `longest` is what one of them holds at most."""

    slots: slice
    longest: int
    mask: Tensor | None


class Plan:
    """The tensors of one step, built once and read by every layer."""

    def __init__(
        self, arena: Arena, decoding: Sequence[Span], encoding: Sequence[Span], groups: int
    ) -> None:
        """`decoding` holds one id for each of slots 0..n-1; `groups` is query heads a KV head."""
        self.arena, self.encoding, self.groups = arena, encoding, groups
        self.num_decoding = len(decoding)
        spans = [*decoding, *encoding]
        ids = [token for span in spans for token in span.ids]
        positions = [position for span in spans for position in range(span.start, span.end)]
        slots = [span.slot for span in spans for _ in span.ids]
        # one transfer for everything that the device needs to know
        table = torch.tensor([ids, positions, slots]).to(arena.shape.device)
        self.input_ids, self.position_ids = table[0:1], table[1:2]
        self.index = arena.index(table[2], table[1])
        ends = [span.end for span in decoding]
        rows = _ROWS_AT_ONCE if arena.shape.device.type == "cpu" else max(1, len(ends))
        self.decoding = [
            self._decoding(first, ends[first : first + rows]) for first in range(0, len(ends), rows)
        ]
        self.encoding_masks = [self._span_mask(span) for span in encoding]

    def _decoding(self, first: int, ends: Sequence[int]) -> Decoding:
        slots, longest = slice(first, first + len(ends)), max(ends)
        if min(ends) == longest:
            return Decoding(slots, longest, None)
        mask = self._mask(self.position_ids[0, slots, None], longest)
        return Decoding(slots, longest, mask[:, None, None, :])

    def _mask(self, positions: Tensor, length: int) -> Tensor:
        """Additive mask `[queries, length]`: a query sees its own position and those before it."""
        shape = self.arena.shape
        hidden = torch.arange(length, device=shape.device) > positions
        mask = torch.zeros(hidden.shape, dtype=shape.dtype, device=shape.device)
        return mask.masked_fill_(hidden, float("-inf"))

    def _span_mask(self, span: Span) -> Tensor | None:
        if len(span.ids) == 1:
            return None
        positions = torch.arange(span.start, span.end, device=self.arena.shape.device)
        return self._mask(positions[:, None], span.end).repeat(self.groups, 1)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: Plan,
    scaling: float,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention of `[1, heads, tokens, dim]` queries over each token's own row of the arena.

    The query heads that share a KV head are folded into the query length, so that keys and values
    are never repeated. Returns `[1, tokens, heads, dim]`.
    """
    layer: Any = module.layer_idx
    heads, tokens, dim = query.shape[1:]
    groups = plan.groups
    plan.arena.write(layer, plan.index, key[0].transpose(0, 1), value[0].transpose(0, 1))
    query = query[0].transpose(0, 1).reshape(tokens, heads // groups, groups, dim)
    outputs = []
    for rows in plan.decoding:
        keys, values = plan.arena.rows(layer, rows.slots, rows.longest)
        output = scaled_dot_product_attention(
            query[rows.slots], keys, values, rows.mask, scale=scaling
        )
        outputs.append(output.reshape(-1, heads, dim))
    count = plan.num_decoding
    for span, mask in zip(plan.encoding, plan.encoding_masks, strict=True):
        length = len(span.ids)
        keys, values = plan.arena.rows(layer, slice(span.slot, span.slot + 1), span.end)
        folded = query[count : count + length].permute(1, 2, 0, 3)
        output = scaled_dot_product_attention(
            folded.reshape(1, -1, groups * length, dim), keys, values, mask, scale=scaling
        )
        outputs.append(output.view(heads, length, dim).transpose(0, 1))
        count += length
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return output[None], None


AttentionInterface.register(ATTENTION, packed_attention)
