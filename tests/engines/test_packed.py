"""Attention of one step: rows that attend together see what each of them would see alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from solver.engines.arena import Arena, CacheShape
from solver.engines.packed import Plan, Span, packed_attention

LAYERS, KV_HEADS, GROUPS, DIM = 1, 2, 3, 4
SHAPE = CacheShape(LAYERS, KV_HEADS, DIM, torch.float32, torch.device("cpu"))


def arena(slots: int, capacity: int = 64) -> Arena:
    found = Arena(SHAPE)
    found.fit([0] * slots, capacity, capacity, 10**6)
    return found


def alone(query: Tensor, keys: Tensor, values: Tensor, start: int) -> Tensor:
    """Attention of one span by its definition: `[ids, heads, dim]` over `[cells, kv_heads, dim]`."""
    out = torch.empty_like(query)
    for i, head in ((i, h) for i in range(len(query)) for h in range(query.shape[1])):
        seen, kv = start + i + 1, head // GROUPS
        weights = (keys[:seen, kv] @ query[i, head] * 0.5).softmax(0)
        out[i, head] = weights @ values[:seen, kv]
    return out


@pytest.mark.parametrize(
    ("decoding", "encoding"),  # starts by slot; then (slot, start, number of ids)
    [
        ([], [(0, 0, 7)]),
        ([12, 3, 12], []),
        ([9] * 10, []),
        ([5 + 3 * (slot % 4) for slot in range(19)], []),  # more than attend together, uneven
        ([9], [(1, 4, 5), (2, 11, 5), (3, 0, 5), (4, 6, 1), (6, 6, 2)]),
        ([3, 30], [(5, 20, 30), (3, 1, 30)]),
    ],
)
def test_each_row_sees_its_own_cells_only(
    decoding: list[int], encoding: list[tuple[int, int, int]]
) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    cache = arena(20)
    first = [Span(slot, start, [0]) for slot, start in enumerate(decoding)]
    others = [Span(slot, start, [0] * count) for slot, start, count in encoding]
    asked = [*first, *others]
    held = {span.slot: (random(64, KV_HEADS, DIM), random(64, KV_HEADS, DIM)) for span in asked}
    for slot, (keys, values) in held.items():  # with what lies behind the row, which nobody may see
        places = torch.arange(64)
        cache.write(0, cache.index(torch.full((64,), slot), places), keys, values)
    plan = Plan(cache, first, others, GROUPS)
    tokens = plan.input_ids.shape[1]
    query = random(tokens, KV_HEADS * GROUPS, DIM)
    new = [held[s.slot][kind][s.start : s.end] for kind in (0, 1) for s in asked]
    keys, values = (torch.cat(new[at : at + len(asked)]) for at in (0, len(asked)))
    output, _ = packed_attention(
        SimpleNamespace(layer_idx=0),  # type: ignore[arg-type]
        query.transpose(0, 1)[None],
        keys.transpose(0, 1)[None],
        values.transpose(0, 1)[None],
        None,
        plan=plan,
        scaling=0.5,
    )
    begin = 0
    for span in asked:
        mine = query[begin : begin + len(span.ids)]
        expected = alone(mine, *held[span.slot], span.start)
        assert torch.allclose(output[0, begin : begin + len(span.ids)], expected, atol=1e-5)
        begin += len(span.ids)
    assert begin == tokens
