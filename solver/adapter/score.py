"""The reference scorer over HF caches: prefix KV without [STOP], then the [STOP] positions on a copy.

It is what tests and training measure against; an engine does the same over its own cache. A prefix
cache is a tensor `[2, layers, kv_heads, length, head_dim]` of keys and values as attention uses them
(keys already rotated), so that it can be stored, moved and batched with others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from solver.adapter.gate import StopGate
from solver.errors import ModelError


@torch.no_grad()
def encode_prefixes(model: Any, prefixes: Sequence[Sequence[int]]) -> list[Tensor]:
    """The prefix cache of each prefix, computed as one batch without gradient.

    Shorter prefixes are padded at the end, which no causal position before it can see: no mask is
    needed, and the padding is cut off.
    """
    longest = max(len(prefix) for prefix in prefixes)
    # The filling is an id of the prefix itself: never a [STOP] id, never out of range.
    ids = [[*prefix, *[prefix[-1]] * (longest - len(prefix))] for prefix in prefixes]
    cache: Any = DynamicCache()
    model.base_model(
        input_ids=torch.tensor(ids, device=model.device), past_key_values=cache, use_cache=True
    )
    encoded = []
    for row, prefix in enumerate(prefixes):
        pairs = [
            torch.stack([layer.keys[row, :, : len(prefix)], layer.values[row, :, : len(prefix)]])
            for layer in cache.layers
        ]
        encoded.append(torch.stack(pairs, dim=1))
    return encoded


def stop_states(model: Any, stop_token_ids: Sequence[int], caches: Sequence[Tensor]) -> Tensor:
    """The state `[batch, hidden]` of the last [STOP] position after each cached prefix.

    A batch of unequal lengths is padded on the left and masked, so that sliding windows count the
    distance between a [STOP] and its prefix as they do for one prefix alone. The caches are copied,
    never changed; gradients flow to the adapter on the [STOP] positions only.
    """
    lengths = torch.tensor([cache.shape[3] for cache in caches], device=model.device)
    longest, count = int(lengths.max()), len(stop_token_ids)
    first = caches[0]
    _, layers, heads, _, dim = first.shape
    shape = (2, layers, len(caches), heads, longest, dim)
    batch = torch.zeros(shape, dtype=first.dtype, device=model.device)
    for row, cache in enumerate(caches):
        batch[:, :, row, :, longest - cache.shape[3] :] = cache
    mask = None
    if int(lengths.min()) < longest:
        places = torch.arange(longest + count, device=model.device)
        mask = (places >= longest - lengths[:, None]).long()
    return _run_stop(
        model,
        torch.tensor(stop_token_ids, device=model.device).expand(len(caches), count),
        lengths[:, None] + torch.arange(count, device=model.device),
        cache_of(batch[0], batch[1]),
        mask,
    )


@torch.no_grad()
def score_prefixes(
    model: Any,
    gate: StopGate,
    prefixes: Sequence[Sequence[int]],
    *,
    batch_size: int = 32,
    cached: bool = True,
) -> Tensor:
    """The logit `[n]` (fp32, CPU) of "ends right" for each prefix of token ids.

    `cached` runs [STOP] over prefix caches, as every engine does; otherwise prefix and [STOP] go
    through the model together, without a cache. Both give the same scores up to rounding.
    """
    check_prefixes(prefixes, gate)
    stop_ids = gate.adapter.stop_token_ids
    scores = torch.empty(len(prefixes))
    order = sorted(range(len(prefixes)), key=lambda index: len(prefixes[index]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = [prefixes[place] for place in places]
        if cached:
            states = stop_states(model, stop_ids, encode_prefixes(model, batch))
        else:
            states = _states_in_full(model, stop_ids, batch)
        scores[places] = gate.adapter.head(states).cpu()
    return scores


def check_prefixes(prefixes: Sequence[Sequence[int]], gate: StopGate) -> None:
    """Raise `ModelError` for a prefix that is empty, holds a [STOP] id or one beyond the vocabulary."""
    reserved = set(gate.adapter.stop_token_ids)
    num_rows = gate.model.get_input_embeddings().weight.shape[0]
    for prefix in prefixes:
        if not prefix:
            raise ModelError("an empty prefix cannot be scored")
        if min(prefix) < 0 or max(prefix) >= num_rows:
            raise ModelError(f"a prefix holds ids beyond the model's vocabulary of {num_rows} ids")
        if not reserved.isdisjoint(prefix):
            raise ModelError("a prefix holds a [STOP] id: these ids must be banned in generation")


def _states_in_full(
    model: Any, stop_token_ids: Sequence[int], prefixes: Sequence[Sequence[int]]
) -> Tensor:
    longest = max(len(prefix) for prefix in prefixes)
    ids = [[*p, *stop_token_ids, *[p[-1]] * (longest - len(p))] for p in prefixes]
    hidden = model.base_model(
        input_ids=torch.tensor(ids, device=model.device), use_cache=False
    ).last_hidden_state
    last = [len(prefix) + len(stop_token_ids) - 1 for prefix in prefixes]
    states: Tensor = hidden[torch.arange(len(prefixes)), last]
    return states


def cache_of(keys: Tensor, values: Tensor) -> DynamicCache:
    """A cache of transformers over `[layers, batch, heads, length, dim]` tensors, which it never writes to.

    Every layer keeps all positions, sliding ones too: HF's masks hide what lies outside the window.
    """
    cache = DynamicCache()
    for layer_keys, layer_values in zip(keys, values, strict=True):
        layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(layer_keys, layer_values)
        layer.keys, layer.values = layer_keys, layer_values
        cache.layers.append(layer)
    return cache


def _run_stop(
    model: Any, ids: Tensor, positions: Tensor, cache: DynamicCache, mask: Tensor | None
) -> Tensor:
    output = model.base_model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
    )
    states: Tensor = output.last_hidden_state[:, -1]
    return states
