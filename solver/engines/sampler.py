"""Choosing tokens: every draw is a pure function of the logits, the parameters and (seed, position).

Order of the filters: banned ids leave, temperature divides, then top-k, top-p and min-p, each on
what the one before it left. All three keep the ids above a threshold, so ids that tie with the last
one kept are kept too, and the result does not depend on how a sort breaks ties. The token is then
drawn by inverse CDF, in vocabulary order and float64, from a uniform number that is a hash of the
request's seed and the token's absolute position: company in the batch, pauses and restarts cannot
change it. (Numeric noise in the logits, about 1e-6, can move a draw that falls on a boundary. So
probabilities over a whole vocabulary are float32, with an error of 1e-7.)

A vocabulary of 150,000 ids is not sorted for that. It is cut into blocks, and only blocks whose best
id may be kept are looked at: for top-k those no worse than the k-th best block; for top-p the heaviest
few, and more if the last id kept of them is no heavier than what another block may have; for min-p those
that pass it. What is kept of them is exactly what a full sort would keep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from solver.types import CANDIDATES, SamplingParams

BLOCK = 64  # ids
_BLOCKS_OF_NUCLEUS = (16, 128, 512)  # tried in turn before all of them
_PIECE = 2**20  # logits a CPU works on at a time: what it writes of them stays in its cache
_NONE = float("-inf")


class Draw(NamedTuple):
    """A drawn token, its log-probability, and its place among the candidates (`solver.types.Chunk`)."""

    token: int
    logprob: float
    confidence: float
    entropy: float


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: a bijection in which every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(seeds: NDArray[np.uint64], positions: Sequence[int]) -> NDArray[np.float64]:
    """One number in [0, 1) for each (seed, position): splitmix64's stream of the mixed seed."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    counters = np.asarray(positions, dtype=np.uint64)
    mixed = _mix(_mix(seeds + golden) + (counters + np.uint64(1)) * golden)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Sampler:
    """The parameters of a set of rows as tensors; built anew only when the set changes."""

    def __init__(self, params: Sequence[SamplingParams], vocab_size: int, device: torch.device):
        self.params = list(params)
        self.seeds = np.array([p.seed % 2**64 for p in params], dtype=np.uint64)
        self._device = device
        rows = max(1, _PIECE // vocab_size) if device.type == "cpu" else max(1, len(params))
        self._pieces = [
            (slice(first, first + rows), _Rows(params[first : first + rows], vocab_size, device))
            for first in range(0, len(params), rows)
        ]

    def sample(self, logits: Tensor, positions: Sequence[int]) -> list[Draw]:
        """Draw one token a row from `[rows, vocab]` logits, for the given absolute positions.

        What it says of a draw is in nats, from the raw logits in float32, whatever was filtered.
        """
        numbers = torch.from_numpy(uniforms(self.seeds, positions)).to(self._device)[:, None]
        tables = [rows.sample(logits[part], numbers[part]) for part, rows in self._pieces]
        # one transfer, one synchronisation
        return [Draw(int(token), *told) for token, *told in torch.cat(tables).tolist()]

    def distribution(self, logits: Tensor) -> Tensor:
        """The probabilities `[rows, vocab]` in float64 that `sample` draws from; for tests."""
        return torch.cat([rows.distribution(logits[part]) for part, rows in self._pieces])


class _Rows:
    """The parameters of rows that are sampled together."""

    def __init__(self, params: Sequence[SamplingParams], vocab_size: int, device: torch.device):
        self._vocab_size = vocab_size
        banned = defaultdict(list)
        for row, p in enumerate(params):
            banned[p.banned_token_ids].append(row)
        self._banned = [
            (torch.tensor(rows, device=device)[:, None], torch.tensor(known, device=device))
            for ids, rows in banned.items()
            if (known := sorted(token for token in ids if 0 <= token < vocab_size))
        ]
        # rows of one kind go together, so that none pays for another's filter
        kinds = defaultdict(list)
        for row, p in enumerate(params):
            kinds[_kind(p, vocab_size)].append(row)
        self._kinds = [
            (
                None if len(kinds) == 1 else torch.tensor(rows, device=device),
                _Filters(kind, [params[row] for row in rows], vocab_size, device),
            )
            for kind, rows in kinds.items()
        ]

    def sample(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """What `Draw` holds, as `[rows, 4]`; float64 holds every token id and float32 exactly."""
        logits = _in_blocks(logits.float())
        peaks = _blocks(logits).amax(-1)
        with self._without_banned(logits, peaks) as best_allowed:
            chosen = torch.empty(len(logits), 1, dtype=torch.long, device=logits.device)
            for rows, filters in self._kinds:
                if rows is None:
                    chosen = filters.draw(logits, best_allowed, numbers)
                else:
                    chosen[rows] = filters.draw(logits[rows], best_allowed[rows], numbers[rows])
        top = peaks.amax(-1, keepdim=True)
        total = top - logits.softmax(-1).amax(-1, keepdim=True).log_()
        count = min(CANDIDATES, self._vocab_size)
        best = _take(logits, _heaviest(peaks, min(count, peaks.shape[1])))
        best = best.topk(count, sorted=False).values - total
        columns = [
            chosen,
            logits.gather(1, chosen) - total,
            -best.mean(-1, keepdim=True),
            torch.special.entr(best.softmax(-1)).sum(-1, keepdim=True),
        ]
        return torch.cat([column.double() for column in columns], 1)

    def distribution(self, logits: Tensor) -> Tensor:
        """See `Sampler.distribution`."""
        logits = _in_blocks(logits.float())
        probs = torch.zeros_like(logits, dtype=torch.float64)
        with self._without_banned(logits, _blocks(logits).amax(-1)) as peaks:
            for rows, filters in self._kinds:
                which = torch.arange(len(logits), device=logits.device) if rows is None else rows
                weights, blocks = filters.weigh(logits[which], peaks[which])
                if blocks is not None:
                    ids = (
                        blocks[:, :, None] * BLOCK + torch.arange(BLOCK, device=logits.device)
                    ).flatten(1)
                    weights = torch.zeros_like(probs[which]).scatter_(1, ids, weights)
                probs[which] = weights / weights.sum(-1, keepdim=True, dtype=torch.float64)
        return probs[:, : self._vocab_size]

    @contextmanager
    def _without_banned(self, logits: Tensor, peaks: Tensor) -> Iterator[Tensor]:
        """Banned ids are -inf in `logits` meanwhile, for a copy would take longer; gives blocks' best."""
        if not self._banned:
            yield peaks
            return
        peaks = peaks.clone()
        kept = []
        for rows, tokens in self._banned:
            kept.append(logits[rows, tokens])
            logits[rows, tokens] = _NONE
            blocks = torch.unique(tokens // BLOCK)
            peaks[rows, blocks] = _blocks(logits)[rows, blocks].amax(-1)
        yield peaks
        for (rows, tokens), values in zip(self._banned, kept, strict=True):
            logits[rows, tokens] = values


class _Kind(NamedTuple):
    """Which filters a row has."""

    greedy: bool
    top_k: bool
    top_p: bool
    min_p: bool


def _kind(p: SamplingParams, vocab_size: int) -> _Kind:
    return _Kind(p.temperature == 0, 0 < p.top_k < vocab_size, p.top_p < 1, p.min_p > 0)


class _Filters:
    """Temperature, top-k, top-p and min-p of rows of one kind, and the draw from what is left."""

    def __init__(
        self, kind: _Kind, params: Sequence[SamplingParams], vocab_size: int, device: torch.device
    ):
        def column(values: Sequence[float]) -> Tensor:
            return torch.from_numpy(np.array(values)).to(device)[:, None]

        self._kind = kind
        self._vocab_size = vocab_size
        self._temperature = column([p.temperature or 1.0 for p in params])
        self._top_k = column([p.top_k for p in params])
        self._largest_k = max(p.top_k for p in params)
        self._top_p = column([max(p.top_p, 2.0**-52) for p in params])
        self._min_p = column([p.min_p for p in params])

    def draw(self, allowed: Tensor, peaks: Tensor, numbers: Tensor) -> Tensor:
        """The drawn ids `[rows, 1]` for the uniform `numbers` `[rows, 1]`."""
        if self._kind.greedy:
            block = peaks.argmax(-1, keepdim=True)
            return block * BLOCK + _take(allowed, block).argmax(-1, keepdim=True)
        weights, blocks = self.weigh(allowed, peaks)
        drawn = _inverse_cdf(weights, numbers)
        if blocks is None:
            return drawn
        return blocks.gather(1, drawn // BLOCK) * BLOCK + drawn % BLOCK

    def weigh(self, allowed: Tensor, peaks: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weights, 0 for what is dropped; of these blocks, or of all if that is None.

        With a filter, which compares them, they are float64 and the best id has weight 1; without one they
        are float32 and sum to 1.
        """
        best = peaks.amax(-1, keepdim=True)
        if not any(self._kind):
            return self._probabilities(allowed, best), None
        least = self._min_p
        if self._kind.top_k:
            place = self._top_k.clamp(max=peaks.shape[1]) - 1
            count = min(self._largest_k, peaks.shape[1])
            needed = peaks >= peaks.topk(count).values.gather(1, place)
            blocks = _these(needed, peaks)
            weights = self._weights_of(_take(allowed, blocks), best)
            falling = _descending(weights)
            last = falling.gather(1, self._top_k - 1)
            least = torch.maximum(least, last)
            if self._kind.top_p:
                falling[falling < last] = 0
                wanted = self._top_p * falling.sum(-1, keepdim=True)
                least = torch.maximum(least, _last_of(falling, wanted))
        elif self._kind.top_p:
            probability = self._probabilities(allowed, best).amax(-1, keepdim=True)
            wanted = self._top_p / probability.double()
            weights, blocks, last = self._nucleus(allowed, peaks, best, wanted)
            least = torch.maximum(least, last)
        else:
            blocks = _these(self._weights_of(peaks, best) >= self._min_p, peaks)
            weights = self._weights_of(_take(allowed, blocks), best)
        return weights.masked_fill_(weights < least, 0), blocks

    def _nucleus(
        self, allowed: Tensor, peaks: Tensor, best: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """What top-p keeps lies in these blocks: their weights, they, and the last weight that is kept.

        A few of the heaviest blocks will do if those come to `wanted` before a weight that others may have.
        """
        for count in _BLOCKS_OF_NUCLEUS:
            if 2 * count > peaks.shape[1]:
                break
            heaviest = peaks.topk(count + 1)
            blocks = heaviest.indices[:, :count].sort().values
            weights = self._weights_of(_take(allowed, blocks), best)
            falling = _descending(weights)
            last = _last_of(falling, wanted)
            others = self._weights_of(heaviest.values[:, -1:], best)
            enough = (falling.sum(-1, keepdim=True) >= wanted) & (last > others)
            if bool(enough.all()):
                return weights, blocks, last
        weights = self._weights_of(allowed, best)
        return weights, None, _last_of(_descending(weights), wanted)

    def _weights_of(self, scores: Tensor, best: Tensor) -> Tensor:
        weights = scores.double()
        weights -= best
        return weights.div_(self._temperature).exp_()

    def _probabilities(self, scores: Tensor, best: Tensor) -> Tensor:
        """The weights as shares of their sum, in float32: a third of the time, where no tie matters."""
        return (scores - best).div_(self._temperature.float()).softmax(-1)


def _in_blocks(logits: Tensor) -> Tensor:
    """`[rows, n]` filled up with -inf to whole blocks."""
    missing = -logits.shape[1] % BLOCK
    return F.pad(logits, (0, missing), value=_NONE) if missing else logits


def _blocks(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1, BLOCK)


def _sums_of_blocks(weights: Tensor) -> Tensor:
    return _blocks(weights).sum(-1, dtype=torch.float64)


def _these(needed: Tensor, peaks: Tensor) -> Tensor | None:
    """The numbers of blocks `[rows, some]`, rising, with all that are needed; None: look at all."""
    count = max(1, int(needed.sum(-1).max()))
    return _heaviest(peaks, count) if 2 * count <= peaks.shape[1] else None


def _heaviest(peaks: Tensor, count: int) -> Tensor:
    return peaks.topk(count, sorted=False).indices.sort().values


def _take(values: Tensor, blocks: Tensor | None) -> Tensor:
    """The values `[rows, some * BLOCK]` of these blocks."""
    if blocks is None:
        return values
    places = blocks[:, :, None].expand(-1, -1, BLOCK)
    return _blocks(values).gather(1, places).flatten(1)


def _last_of(falling: Tensor, wanted: Tensor) -> Tensor:
    """The last weight that top-p keeps of weights that fall `[rows, n]`, `[rows, 1]`.

    The fewest best ones that come to `wanted` `[rows, 1]` or more, the first one always.
    """
    last = ((falling.cumsum(-1) - falling) < wanted).sum(-1, keepdim=True) - 1
    return falling.gather(1, last.clamp_(min=0))


def _inverse_cdf(weights: Tensor, numbers: Tensor) -> Tensor:
    """The first place `[rows, 1]` at which the sum of `[rows, n]` weights passes number * total."""
    sums = _sums_of_blocks(weights).cumsum(-1)
    target = numbers * sums[:, -1:]
    block = _first_above(sums, target)
    before = F.pad(sums, (1, 0)).gather(1, block)
    within = _take(weights, block).cumsum(-1, dtype=torch.float64)
    return block * BLOCK + _first_above(within, target - before)


def _first_above(sums: Tensor, target: Tensor) -> Tensor:
    # rounding must not lift the target to the very end, past the last one that has any weight
    total = sums[:, -1:]
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(sums, target, right=True).clamp_(max=sums.shape[1] - 1)


def _descending(weights: Tensor) -> Tensor:
    if weights.device.type != "cpu":
        return weights.sort(-1, descending=True).values
    # numpy sorts with SIMD, ten times faster than torch does on a CPU
    return torch.from_numpy(-np.sort(-weights.numpy(), axis=-1))
