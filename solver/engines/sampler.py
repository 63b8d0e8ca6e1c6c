"""Choosing tokens: every draw is a pure function of the logits, the parameters and (seed, position).

Order of the filters: banned ids leave, temperature divides, then top-k, top-p and min-p, each on
what the one before it left. All three keep the ids above a threshold, so ids that tie with the last
one kept are kept too, and the result does not depend on how a sort breaks ties. The token is then
drawn by inverse CDF, in vocabulary order and float64, from a uniform number that is a hash of the
request's seed and the token's absolute position: company in the batch, pauses and restarts cannot
change it. (Numeric noise in the logits, about 1e-6, can move a draw that falls on a boundary.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solver.types import CANDIDATES, SamplingParams


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
        self._device = device
        self.seeds = np.array([p.seed % 2**64 for p in params], dtype=np.uint64)
        self._greedy = self._column([p.temperature == 0 for p in params])
        self._all_greedy = all(p.temperature == 0 for p in params)
        self._any_greedy = any(p.temperature == 0 for p in params)
        self._temperature = self._column([p.temperature or 1.0 for p in params])
        self._top_k = self._column([min(p.top_k or vocab_size, vocab_size) for p in params])
        self._top_p = self._column([max(p.top_p, 2.0**-52) for p in params])
        self._log_min_p = self._column([p.min_p for p in params]).log()
        self._has_top_k = any(p.top_k for p in params)
        self._has_top_p = any(p.top_p < 1 for p in params)
        self._has_min_p = any(p.min_p > 0 for p in params)
        banned = [
            (row, token)
            for row, p in enumerate(params)
            for token in p.banned_token_ids
            if 0 <= token < vocab_size
        ]
        self._banned = torch.tensor(banned, device=device).T if banned else None

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.from_numpy(np.array(values)).to(self._device)[:, None]

    def sample(self, logits: Tensor, positions: Sequence[int]) -> list[Draw]:
        """Draw one token a row from `[rows, vocab]` logits, for the given absolute positions.

        What it says of a draw is in nats, from the raw logits in float32, whatever was filtered.
        """
        logits = logits.float()
        allowed = logits
        if self._banned is not None:
            rows, tokens = self._banned
            allowed = logits.index_put((rows, tokens), logits.new_tensor(float("-inf")))
        if self._all_greedy:
            chosen = allowed.argmax(-1, keepdim=True)
        else:
            chosen = self._draw(allowed, positions)
            if self._any_greedy:
                chosen = torch.where(self._greedy, allowed.argmax(-1, keepdim=True), chosen)
        logprobs = logits.log_softmax(-1)
        best = logprobs.topk(min(CANDIDATES, logprobs.shape[1]), sorted=False).values
        columns = [
            chosen,
            logprobs.gather(1, chosen),
            -best.mean(-1, keepdim=True),
            torch.special.entr(best.softmax(-1)).sum(-1, keepdim=True),
        ]
        # float64 holds every token id and float32 exactly: one transfer, one synchronisation
        table = torch.cat([column.double() for column in columns], 1).tolist()
        return [Draw(int(token), *numbers) for token, *numbers in table]

    def _draw(self, allowed: Tensor, positions: Sequence[int]) -> Tensor:
        scores = self.filter(allowed)
        cdf = scores.softmax(-1).cumsum(-1)
        draws = torch.from_numpy(uniforms(self.seeds, positions)).to(self._device)[:, None]
        total = cdf[:, -1:]
        # rounding must not lift the target to the very end, past the last id that has any weight
        target = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
        return torch.searchsorted(cdf, target, right=True).clamp_(max=cdf.shape[1] - 1)

    def filter(self, allowed: Tensor) -> Tensor:
        """Scores `[rows, vocab]` in float64 after temperature, with -inf for what the filters drop."""
        scores = allowed.double() / self._temperature
        least = scores.new_full((len(scores), 1), float("-inf"))
        if self._has_top_k or self._has_top_p:
            best = _descending(scores)
            least = best.gather(1, self._top_k - 1)
            probs = best.masked_fill(best < least, float("-inf")).softmax(-1)
            # the fewest best ids whose probabilities sum to top-p or more, the first one always
            last = ((probs.cumsum(-1) - probs) < self._top_p).sum(-1, keepdim=True) - 1
            least = torch.maximum(least, best.gather(1, last))
        if self._has_min_p:
            least = torch.maximum(least, scores.amax(-1, keepdim=True) + self._log_min_p)
        return scores.masked_fill(scores < least, float("-inf"))


def _descending(scores: Tensor) -> Tensor:
    if scores.device.type != "cpu":
        return scores.sort(-1, descending=True).values
    # numpy sorts with SIMD, ten times faster than torch does on a CPU
    return torch.from_numpy(-np.sort(-scores.numpy(), axis=-1))
