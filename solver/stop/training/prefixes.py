"""Prefix KV of training examples: computed once, kept within a bound, recomputed beyond it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from solver.adapter.score import encode_prefixes

_TOKENS = 8192  # padded tokens of one encoding batch


class PrefixStore:
    """Prefix caches by index. The first ones that fit in `max_bytes` are kept in CPU memory."""

    def __init__(self, model: Any, prefixes: Sequence[Sequence[int]], max_bytes: float) -> None:
        self._model, self._prefixes, self._max_bytes = model, prefixes, max_bytes
        self._kept: dict[int, Tensor] = {}
        self.num_bytes = 0

    @property
    def num_tokens(self) -> int:
        """Of all prefixes."""
        return sum(map(len, self._prefixes))

    def __len__(self) -> int:
        return len(self._prefixes)

    def fill(self, advance: Callable[[int], None] | None = None) -> None:
        """Encode prefixes, shortest first, until the bound is reached; `advance` counts their tokens.

        The batches do not depend on the order of training, so a resumed run keeps the same bits.
        """
        order = sorted(range(len(self)), key=lambda index: len(self._prefixes[index]))
        start = 0
        while start < len(order):
            count = _TOKENS // max(1, len(self._prefixes[order[start]]))
            rows = order[start : start + max(1, count)]
            for row, cache in zip(rows, self._encode(rows), strict=True):
                size = cache.numel() * cache.element_size()
                if self.num_bytes + size > self._max_bytes:
                    return
                self._kept[row] = cache.cpu()
                self.num_bytes += size
            if advance is not None:
                advance(sum(len(self._prefixes[row]) for row in rows))
            start += len(rows)

    def get(self, rows: Sequence[int]) -> list[Tensor]:
        """The prefix caches of `rows`, in their order."""
        missing = [row for row in rows if row not in self._kept]
        fresh = dict(zip(missing, self._encode(missing), strict=True)) if missing else {}
        return [fresh[row] if row in fresh else self._kept[row] for row in rows]

    def _encode(self, rows: Sequence[int]) -> list[Tensor]:
        longest = max(len(self._prefixes[row]) for row in rows)
        size = max(1, _TOKENS // longest)
        encoded = []
        for start in range(0, len(rows), size):
            batch = [self._prefixes[row] for row in rows[start : start + size]]
            encoded += encode_prefixes(self._model, batch)
        return encoded
