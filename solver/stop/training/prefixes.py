"""What training reads of the frozen base model, computed once: prefix KV and last states by problem.

Siblings share their prompt's keys and values (`siblings`), which are kept in bfloat16 (`shelf`): 12 KB a
token for a model of 0.5 billion parameters. What there is no room for is computed again whenever it is asked
for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from solver.stop.training.shelf import Kept, Shelf
from solver.stop.training.siblings import (
    Siblings,
    encode_siblings,
    group_siblings,
    sibling_stop_states,
)


class PrefixStore:
    """Prefixes by index, in `groups` of siblings; `problem_ids` says whose each prefix is."""

    def __init__(
        self,
        model: Any,
        prefixes: Sequence[Sequence[int]],
        problem_ids: Sequence[str],
        shelf: Shelf,
    ) -> None:
        self._model, self._shelf = model, shelf
        self.groups = group_siblings(prefixes, problem_ids)
        self._keys = [_key(group) for group in self.groups]
        self._group_of = {
            row.place: (g, number)
            for g, group in enumerate(self.groups)
            for number, row in enumerate(group.rows)
        }

    @property
    def num_tokens(self) -> int:
        """Of all prefixes, a shared beginning once."""
        return sum(group.num_tokens for group in self.groups)

    @property
    def num_kept_tokens(self) -> int:
        """Those that are encoded and kept."""
        return sum(group.num_tokens for group, key in self._keyed() if key in self._shelf)

    def fill(self, advance: Callable[[int], None] = lambda _: None) -> None:
        """Encode what is not kept yet until there is no room; `advance` counts its tokens."""
        for group, key in self._keyed():
            if key in self._shelf:
                continue
            if not self._shelf.put(key, self._encode(group)):
                return
            advance(group.num_tokens)

    def states(self, rows: Sequence[int]) -> Tensor:
        """The base model's last hidden state `[rows, hidden]` at the last id of each prefix, float32."""
        found: dict[int, Tensor] = {}
        for g, numbers in self._by_group(rows).items():
            _, states = self._get(g)
            found |= {self.groups[g].rows[number].place: states[number] for number in numbers}
        return torch.stack([found[row] for row in rows])

    def stop_states(self, stop_token_ids: Sequence[int], rows: Sequence[int]) -> Tensor:
        """The state `[rows, hidden]` of the last [STOP] behind each prefix, in one forward pass."""
        asked = self._by_group(rows)
        parts = [(self.groups[g], numbers, self._get(g)[0]) for g, numbers in asked.items()]
        states = sibling_stop_states(self._model, stop_token_ids, parts)
        order = [group.rows[number].place for group, numbers, _ in parts for number in numbers]
        at = {place: i for i, place in enumerate(order)}
        return states[[at[row] for row in rows]]

    def _keyed(self) -> Iterator[tuple[Siblings, str]]:
        return zip(self.groups, self._keys, strict=True)

    def _by_group(self, rows: Sequence[int]) -> dict[int, list[int]]:
        """Of each group the numbers of its rows that are asked for."""
        asked: dict[int, list[int]] = {}
        for row in dict.fromkeys(rows):
            group, number = self._group_of[row]
            asked.setdefault(group, []).append(number)
        return asked

    def _get(self, group: int) -> Kept:
        return self._shelf.get(self._keys[group]) or self._encode(self.groups[group])

    def _encode(self, group: Siblings) -> Kept:
        keys_and_values, states = encode_siblings(self._model, group)
        return keys_and_values.to("cpu", torch.bfloat16), states.float().cpu()


def _key(group: Siblings) -> str:
    rows = [(row.member, row.length) for row in group.rows]
    return hashlib.sha256(repr((group.shared, group.rests, rows)).encode()).hexdigest()
