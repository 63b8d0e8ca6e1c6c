"""The KV cache of the rows that run: one tensor a layer, every row left-aligned in its own slot.

A layer is `[2, slots, kv_heads, capacity, head_dim]` (keys, values). Head-major, because the tokens
of one head then lie side by side for attention. Layers are separate tensors so that growing, which
copies, holds at most one layer twice. Sizes are counted in cells: one cell is one token of one slot
through all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 16  # capacity is a multiple of this many tokens


def in_blocks(tokens: int) -> int:
    """`tokens` rounded up to whole blocks."""
    return -(-tokens // BLOCK) * BLOCK


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What one cached token is made of."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Memory of one cached token, all layers, keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize


class Arena:
    """Slots for the rows that run. Knows nothing about requests: slots, lengths and tensors only."""

    def __init__(self, shape: CacheShape) -> None:
        self.shape = shape
        self.slots = 0
        self.capacity = 0
        self._layers: list[Tensor] = []
        self._heads = torch.arange(shape.kv_heads, device=shape.device)
        self.clear()

    @property
    def cells(self) -> int:
        """Cells that are allocated."""
        return self.slots * self.capacity

    def clear(self) -> None:
        """Free every slot."""
        self.slots = self.capacity = 0
        self._layers = [self._empty_layer(0, 0)] * self.shape.layers

    def fit(self, lengths: Sequence[int], capacity: int, limit: int, room: int) -> None:
        """Have a slot of at least `capacity` tokens for each of `lengths`, within `room` cells.

        Slot i keeps its first `lengths[i]` tokens. Slots and capacity grow by doubling where `room`
        allows it, capacity to at most `limit` tokens; both shrink when more than `room` is
        allocated. `len(lengths) * in_blocks(capacity) <= room` must hold.
        """
        slots, capacity = len(lengths), in_blocks(capacity)
        if slots <= self.slots and capacity <= self.capacity and self.cells <= room:
            return
        wanted_slots = self.slots if slots <= self.slots else max(slots, 2 * self.slots)
        wanted = self.capacity
        if capacity > wanted:
            wanted = max(capacity, min(2 * wanted, in_blocks(limit)))
        if wanted_slots * wanted > room:
            wanted_slots = slots
        if wanted_slots * wanted > room:
            wanted = capacity
        for number, old in enumerate(self._layers):
            new = self._empty_layer(wanted_slots, wanted)
            for slot, length in enumerate(lengths):
                if length:
                    new[:, slot, :, :length] = old[:, slot, :, :length]
            self._layers[number] = new
        self.slots, self.capacity = wanted_slots, wanted

    def _empty_layer(self, slots: int, capacity: int) -> Tensor:
        # zeros: masked cells are multiplied by weight 0, which a stray NaN would survive
        shape = self.shape
        return torch.zeros(
            (2, slots, shape.kv_heads, capacity, shape.head_dim),
            dtype=shape.dtype,
            device=shape.device,
        )

    def scrub(self, slot: int) -> None:
        """Set a slot to zero."""
        for layer in self._layers:
            layer[:, slot] = 0

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one slot over another's."""
        for layer in self._layers:
            layer[:, target, :, :length] = layer[:, source, :, :length]

    def swap(self, one: int, other: int, length: int) -> None:
        """Exchange two slots of which neither holds more than `length` tokens."""
        for layer in self._layers:
            kept = layer[:, one, :, :length].clone()
            layer[:, one, :, :length] = layer[:, other, :, :length]
            layer[:, other, :, :length] = kept

    def save(self, slot: int, length: int) -> Tensor:
        """A compact copy of a row, `[layers, 2, kv_heads, length, head_dim]`."""
        return torch.stack([layer[:, slot, :, :length] for layer in self._layers])

    def restore(self, saved: Tensor, slot: int, length: int) -> None:
        """Write the first `length` tokens of a saved row into a slot."""
        for layer, kept in zip(self._layers, saved, strict=True):
            layer[:, slot, :, :length] = kept[:, :, :length]

    def index(self, slots: Tensor, positions: Tensor) -> Tensor:
        """Where `write` puts tokens: for `[tokens]` slots and positions, `[tokens * kv_heads]`."""
        heads = slots[:, None] * self.shape.kv_heads + self._heads
        return (heads * self.capacity + positions[:, None]).flatten()

    def write(self, layer: int, index: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store `[tokens, kv_heads, head_dim]` keys and values at `index`."""
        dim = self.shape.head_dim
        for cells, new in zip(self._layers[layer], (keys, values), strict=True):
            cells.view(-1, dim).index_copy_(0, index, new.reshape(-1, dim))

    def rows(self, layer: int, slots: slice, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values `[slots, kv_heads, length, head_dim]`, without a copy."""
        keys, values = self._layers[layer][:, slots, :, :length]
        return keys, values
