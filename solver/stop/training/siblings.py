"""Siblings, the prefixes of one problem, as one packed sequence: what they share stands there once.

    shared ids | rest of the first | rest of the second | ...      then [STOP] behind each of them

Masks let every token see its own prefix alone, and positions are those that it has there, so keys, values and
states are those of each prefix for itself. A prefix that continues another one serves for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from solver.adapter.score import cache_of

LONGEST = (
    8192  # tokens of a group, unless one prefix alone has more: attention looks at all of them
)
_ENCODED = 2048  # tokens of one pass, unless the rest of one prefix has more


@dataclass(frozen=True, slots=True)
class Row:
    """One prefix of a group: its place in the list of all, whose rest it is cut from, its length in ids."""

    place: int
    member: int
    length: int


@dataclass(frozen=True, slots=True)
class Siblings:
    """Prefixes that begin alike: `shared` ids, the rest of each longest one, and a row for every prefix."""

    shared: tuple[int, ...]
    rests: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]

    @property
    def num_tokens(self) -> int:
        """What is encoded and kept."""
        return len(self.shared) + sum(map(len, self.rests))

    @property
    def starts(self) -> list[int]:
        """Where each rest begins in the packed sequence."""
        starts, end = [], len(self.shared)
        for rest in self.rests:
            starts.append(end)
            end += len(rest)
        return starts


def group_siblings(prefixes: Sequence[Sequence[int]], problem_ids: Sequence[str]) -> list[Siblings]:
    """Every prefix in a group with others of its problem; a problem of many tokens has several groups."""
    by_problem: dict[str, list[int]] = {}
    for place, problem_id in enumerate(problem_ids):
        by_problem.setdefault(problem_id, []).append(place)
    groups = []
    for places in by_problem.values():
        ids = {place: tuple(prefixes[place]) for place in places}
        parents: list[tuple[int, ...]] = []
        for candidate in sorted(set(ids.values())):  # what continues a prefix stands right after it
            if parents and candidate[: len(parents[-1])] == parents[-1]:
                parents.pop()
            parents.append(candidate)
        for some in _parts(parents):
            shared = _common(some)
            rows = [
                Row(place, member, len(prefix))
                for place, prefix in ids.items()
                if (member := _member(prefix, some)) is not None
            ]
            # the same in whatever order they came
            rows.sort(key=lambda row: (row.member, row.length))
            groups.append(Siblings(shared, tuple(p[len(shared) :] for p in some), tuple(rows)))
            ids = {place: prefix for place, prefix in ids.items() if _member(prefix, some) is None}
    return groups


@torch.no_grad()
def encode_siblings(model: Any, group: Siblings) -> tuple[Tensor, Tensor]:
    """(`[2, layers, kv_heads, tokens, dim]` of the packed sequence, `[rows, hidden]` at each row's last id).

    The shared ids are computed once; the rests see them and themselves. Without gradient, in the model's
    precision.
    """
    passes = [([group.shared], 0)] if group.shared else []
    passes += [(rests, len(group.shared)) for rests in _passes(group.rests)]
    keys_and_values: list[Tensor] = []
    hidden = []
    for rests, start in passes:
        cache = cache_of(*keys_and_values[0][:, :, None]) if start else DynamicCache()
        output, new = _encode(model, rests, start, cache)
        keys_and_values.append(new)
        hidden.append(output)
    states, starts = torch.cat(hidden), group.starts
    last = [
        row.length - 1 if row.length <= len(group.shared)
        else starts[row.member] + row.length - len(group.shared) - 1
        for row in group.rows
    ]  # fmt: skip
    return torch.cat(keys_and_values, dim=3), states[last]


def sibling_stop_states(
    model: Any,
    stop_token_ids: Sequence[int],
    groups: Sequence[tuple[Siblings, Sequence[int], Tensor]],
) -> Tensor:
    """The state of the last [STOP] behind some rows of some groups, `[rows of all groups, hidden]`.

    A group comes with the numbers of its rows that are asked for and its packed keys and values, which are
    copied, never changed. Groups stand side by side, padded; gradients flow to the adapter on the [STOP]
    positions only.
    """
    device, count = model.device, len(stop_token_ids)
    most = max(len(numbers) for _, numbers, _ in groups)
    longest = max(group.num_tokens for group, _, _ in groups)
    _, layers, heads, _, dim = groups[0][2].shape
    kept = torch.zeros(
        (2, layers, len(groups), heads, longest, dim), dtype=model.dtype, device=device
    )
    # of each row: where its rest begins, where it ends, and how many of the shared ids are its own
    table = torch.zeros((4, len(groups), most), dtype=torch.long)
    column_places = torch.zeros((len(groups), longest), dtype=torch.long)
    for g, (group, numbers, packed) in enumerate(groups):
        kept[:, :, g, :, : group.num_tokens] = packed.to(device)
        size, starts = len(group.shared), group.starts
        column_places[g, :size] = torch.arange(size)
        for start, rest in zip(starts, group.rests, strict=True):
            column_places[g, start : start + len(rest)] = torch.arange(size, size + len(rest))
        for r, number in enumerate(numbers):
            row = group.rows[number]
            own = max(0, row.length - size)
            begin = starts[row.member]
            table[:, g, r] = torch.tensor([begin, begin + own, min(size, row.length), row.length])
    begins, ends, shared, lengths = table.to(device)[..., None]  # each [groups, rows, 1]
    columns = torch.arange(longest, device=device)
    of_prefix = (columns < shared) | ((columns >= begins) & (columns < ends))
    steps = torch.arange(count, device=device)
    positions = (lengths + steps).flatten(1)  # [groups, rows * count]
    owner = torch.arange(most * count, device=device) // count
    among = (owner[:, None] == owner) & (positions[:, :, None] >= positions[:, None, :])
    seen = torch.cat([of_prefix.repeat_interleave(count, dim=1), among], dim=2)
    at = torch.cat([column_places.to(device), positions], dim=1)
    output = model.base_model(
        input_ids=torch.tensor(stop_token_ids, device=device).repeat(most).expand(len(groups), -1),
        position_ids=positions,
        attention_mask=_masks(model, seen, positions, at),
        past_key_values=cache_of(kept[0], kept[1]),
        use_cache=True,
    )
    last: Tensor = output.last_hidden_state[:, count - 1 :: count]
    return torch.cat([last[g, : len(numbers)] for g, (_, numbers, _) in enumerate(groups)])


def _encode(
    model: Any, rests: Sequence[tuple[int, ...]], start: int, cache: Any
) -> tuple[Tensor, Tensor]:
    """States `[tokens, hidden]` and keys and values `[2, layers, kv_heads, tokens, dim]` of one pass.

    Every rest comes after the `start` shared ids in `cache`, and sees these and itself.
    """
    device = model.device
    lengths = torch.tensor([len(rest) for rest in rests], device=device)
    owner = torch.repeat_interleave(torch.arange(len(rests), device=device), lengths)
    begin = torch.cumsum(lengths, 0) - lengths
    places = torch.arange(len(owner), device=device) - begin[owner] + start
    at = torch.cat([torch.arange(start, device=device), places])
    whose = torch.cat([torch.full((start,), -1, device=device), owner])
    mask = None
    if start or len(rests) > 1:
        seen = ((whose == -1) | (whose == owner[:, None])) & (at <= places[:, None])
        mask = _masks(model, seen[None], places[None], at[None])
    output = model.base_model(
        input_ids=torch.tensor([[i for rest in rests for i in rest]], device=device),
        position_ids=places[None],
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
    )
    pairs = [
        torch.stack([layer.keys[0, :, start:], layer.values[0, :, start:]])
        for layer in cache.layers
    ]
    return output.last_hidden_state[0], torch.stack(pairs, dim=1)


def _parts(prefixes: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Prefixes in their order, cut so that the tokens of a part are at most `LONGEST`."""
    parts: list[list[tuple[int, ...]]] = [[]]
    for prefix in prefixes:
        shared = len(_common([*parts[-1], prefix]))
        tokens = shared + sum(len(p) - shared for p in [*parts[-1], prefix])
        if parts[-1] and tokens > LONGEST:
            parts.append([])
        parts[-1].append(prefix)
    return parts


def _passes(rests: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """What is encoded together: rests in their order, about `_ENCODED` tokens a pass."""
    passes: list[list[tuple[int, ...]]] = []
    tokens = _ENCODED
    for rest in filter(None, rests):
        if tokens + len(rest) > _ENCODED:
            passes.append([])
            tokens = 0
        passes[-1].append(rest)
        tokens += len(rest)
    return passes


def _common(prefixes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The longest beginning that all have; of sorted tuples the first and the last one decide."""
    low, high = min(prefixes), max(prefixes)
    size = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[:size]


def _member(prefix: tuple[int, ...], parents: Sequence[tuple[int, ...]]) -> int | None:
    return next((m for m, p in enumerate(parents) if p[: len(prefix)] == prefix), None)


def _masks(model: Any, seen: Tensor, queries: Tensor, keys: Tensor) -> Any:
    """What transformers takes instead of making masks of its own.

    `seen` `[batch, queries, keys]` says which key is of a query's own prefix; the positions of both decide
    what a sliding window hides of it.
    """
    config = model.config

    def added(allowed: Tensor) -> Tensor:
        mask = torch.zeros(allowed.shape, dtype=model.dtype, device=allowed.device)
        return mask.masked_fill_(~allowed, torch.finfo(model.dtype).min)[:, None]

    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if window is None:
        near = full = added(seen)
    else:
        full = added(seen)
        near = added(seen & (queries[:, :, None] - keys[:, None, :] < window))
    if kinds is None:
        return near
    return {"full_attention": full, "sliding_attention": near}
