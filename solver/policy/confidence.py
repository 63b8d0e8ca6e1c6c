"""Confidence of a prefix from the model's own log-probabilities.

In the taxonomy of prefix scores by source of the signal (external, internal) and learning (not
learned, learned) this is type III: internal, not learned. It is the baseline that STOP, type IV
(internal, learned), has to beat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_logprob(logprobs: Sequence[float]) -> float:
    """Mean log-probability (nats) of the sampled tokens: at most 0, higher is more confident.

        (1 / n) * sum over i of log p(token_i | tokens before it)

    It is minus the logarithm of the perplexity. Raises ValueError if there are none.
    """
    if not logprobs:
        raise ValueError("no sampled tokens: their mean log-probability is undefined")
    return math.fsum(logprobs) / len(logprobs)
