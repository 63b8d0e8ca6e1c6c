"""stop+confidence: a logistic combiner of STOP's logit and the prefix's confidence statistics.

STOP detects wrong plans but not miscopied numbers, which confidence detects; the combination finds both.
The combiner is fitted on validation examples after STOP was trained, because statistics as inputs of
STOP's own head overfit. Pure functions over numbers; numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Array = NDArray[np.float64]

STATISTICS = ("mean", "lowest_window", "tail", "least_token", "length")
_NEWTON_STEPS = 50
_TOLERANCE = 1e-10


class Combiner(BaseModel):
    """sigmoid(bias + sum of weight * (feature - mean) / scale), features in the order of `names`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    window: int = Field(ge=1, description="tokens of `lowest_window` and `tail`")
    num_examples: int
    brier: float | None = Field(None, description="of the fitted probabilities, cross-fitted")
    within_auroc: float | None = Field(None, description="cross-fitted over halves of problems")


def confidence_statistics(
    logprobs: Sequence[float], prefix_length: int, window: int
) -> tuple[float, ...]:
    """`STATISTICS` of a prefix: log-probabilities (nats) of its sampled tokens, its length in tokens.

    mean; the lowest mean over `window` tokens in a row; the mean of the last `window`; the least
    likely token; the length. A prefix shorter than the window is one window. Raises ValueError if
    nothing was sampled.
    """
    if not logprobs:
        raise ValueError("no sampled tokens: their confidence is undefined")
    values = np.asarray(logprobs, dtype=np.float64)
    width = min(window, len(values))
    sums = np.cumsum(np.concatenate(([0.0], values)))
    windows = (sums[width:] - sums[:-width]) / width
    return (
        float(values.mean()),
        float(windows.min()),
        float(windows[-1]),
        float(values.min()),
        float(prefix_length),
    )


def combine(combiner: Combiner, logit: float, statistics: Sequence[float]) -> float:
    """The logit of stop+confidence for one prefix: higher is better."""
    features = (logit, *statistics)
    terms = zip(features, combiner.means, combiner.scales, combiner.weights, strict=True)
    return math.fsum([combiner.bias, *(w * (x - m) / s for x, m, s, w in terms)])


def fit_combiner(
    logits: Sequence[float],
    statistics: Sequence[Sequence[float]],
    labels: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    window: int = 8,
    l2: float = 1e-2,
    names: Sequence[str] = STATISTICS,
) -> Combiner:
    """Fit on `n` examples: logits `[n]`, statistics `[n, s]`, soft labels `[n]`, weights `[n]`.

    Minimises the weighted mean cross-entropy plus l2 / 2 * |weights|^2 over standardised features by
    Newton's method; the bias is free. A feature that never varies gets weight 0. Raises ValueError
    for a single class.
    """
    features = np.column_stack([logits, np.asarray(statistics, dtype=np.float64)])
    targets = np.asarray(labels, dtype=np.float64)
    shares = np.ones(len(targets)) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum()
    if not (targets.max() > 0 and targets.min() < 1):
        raise ValueError("the combiner needs right and wrong examples")
    means = shares @ features
    scales = np.sqrt(shares @ (features - means) ** 2)
    constant = scales < 1e-9 * (1 + np.abs(means))
    scales[constant] = 1.0
    standard = np.where(constant, 0.0, (features - means) / scales)
    solution = fit_logistic(standard, targets, shares, l2)
    return Combiner(
        names=("stop", *names),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        weights=tuple(solution[1:].tolist()),
        bias=float(solution[0]),
        window=window,
        num_examples=len(targets),
    )


def fit_logistic(features: Array, targets: Array, shares: Array, l2: float) -> Array:
    """Bias and weights `[1 + features]` that minimise cross-entropy plus l2 / 2 * |weights|^2.

    `features` `[n, features]`, `targets` in [0, 1] and `shares`, which add up to 1, `[n]`. Newton's method;
    steps are halved until the loss falls.
    """
    design = np.column_stack([np.ones(len(targets)), features])
    penalty = np.full(design.shape[1], l2)
    penalty[0] = 0.0

    def loss(at: Array) -> float:
        margins = design @ at
        return float(shares @ (np.logaddexp(0, margins) - targets * margins) + penalty @ at**2 / 2)

    solution = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(design @ solution, -500, 500)))
        gradient = design.T @ (shares * (chances - targets)) + penalty * solution
        curvature = (design.T * (shares * chances * (1 - chances))) @ design + np.diag(penalty)
        curvature[0, 0] += 1e-12  # a saturated fit has no curvature left in its bias
        step = np.linalg.solve(curvature, gradient)
        length, current = 1.0, loss(solution)
        while loss(solution - length * step) > current and length > 1e-6:
            length /= 2
        solution = solution - length * step
        if float(np.abs(gradient).max()) < _TOLERANCE:
            break
    return solution
