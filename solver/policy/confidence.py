"""Confidence of a prefix, or of a whole trajectory, from the model's own probabilities.

In the taxonomy of prefix scores by source of the signal (external, internal) and learning (not
learned, learned) this is type III: internal, not learned. It is the baseline that STOP, type IV
(internal, learned), has to beat. Every function scores a prefix from one number a sampled token, and
raises ValueError if there is none; higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from solver.types import Trajectory

TAIL = 2048  # tokens, as in DeepConf; a shorter trajectory is all tail


def mean_logprob(logprobs: Sequence[float]) -> float:
    """Mean log-probability (nats) of the sampled tokens: at most 0, higher is more confident.

        (1 / n) * sum over i of log p(token_i | tokens before it)

    It is minus the logarithm of the perplexity. Raises ValueError if there are none.
    """
    if not logprobs:
        raise ValueError("no sampled tokens: their mean log-probability is undefined")
    return math.fsum(logprobs) / len(logprobs)


def mean_logprobs(prefixes: Iterable[Trajectory]) -> list[float]:
    """`mean_logprob` of what each prefix has sampled. Raises ValueError for one that has sampled nothing."""
    return [mean_logprob(prefix.logprobs) for prefix in prefixes]


def negative_entropy(entropies: Sequence[float]) -> float:
    """Minus the mean entropy (nats) of the candidates at each token: at most 0."""
    if not entropies:
        raise ValueError("no sampled tokens: their mean entropy is undefined")
    return -math.fsum(entropies) / len(entropies)


def lowest_group_confidence(confidences: Sequence[float], window: int) -> float:
    """The lowest mean confidence of `window` tokens in a row (DeepConf, arXiv 2508.15260).

    The confidence of a token is minus the mean log-probability of its 20 best candidates: a peaked
    distribution leaves little for the others, so higher is more confident. A prefix that is shorter
    than the window is one group.
    """
    if not confidences:
        raise ValueError("no sampled tokens: their group confidence is undefined")
    if window < 1:
        raise ValueError(f"a group has at least 1 token, not {window}")
    width = min(window, len(confidences))
    groups = range(len(confidences) - width + 1)
    return min(math.fsum(confidences[start : start + width]) / width for start in groups)


def mean_confidence(confidences: Sequence[float]) -> float:
    """The mean confidence (nats) of a trajectory's tokens, by which DeepConf (arXiv 2508.15260) weighs it."""
    if not confidences:
        raise ValueError("no sampled tokens: their mean confidence is undefined")
    return math.fsum(confidences) / len(confidences)


def tail_entropy(entropies: Sequence[float], tail: int = TAIL) -> float:
    """The mean entropy (nats) of the last `tail` tokens, of all where there are fewer: at least 0."""
    return -negative_entropy(entropies[-tail:])
