"""How good scores are against soft labels: Brier score and AUROC, overall and within problems.

A soft label s is read as s right and 1 - s wrong rollouts of the same prefix, so a single label of 0
or 1 is the ordinary case, and a prefix that ends both ways ties with itself, as its rollouts would.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from solver.adapter.spec import Metrics
from solver.stop.calibration import chances

Array = NDArray[np.float64]


def auroc(scores: Array, labels: Array, weights: Array) -> float | None:
    """P(a right rollout scores above a wrong one), ties half, all arrays `[n]`; None without a pair."""
    _, places = np.unique(scores, return_inverse=True)
    right = np.bincount(places, weights=weights * labels)
    wrong = np.bincount(places, weights=weights * (1 - labels))
    pairs = right.sum() * wrong.sum()
    if not pairs > 0:
        return None
    below = np.cumsum(wrong) - wrong
    return float(right @ (below + wrong / 2) / pairs)


def within_auroc(
    scores: Array, labels: Array, weights: Array, problem_ids: Sequence[str]
) -> float | None:
    """The mean over problems of the AUROC among the problem's own prefixes.

    Problems count alike; those with a single prefix or a single class say nothing and are left out.
    """
    _, groups = np.unique(np.asarray(problem_ids, dtype=object).astype(str), return_inverse=True)
    order = np.argsort(groups, kind="stable")
    borders = np.flatnonzero(np.diff(groups[order])) + 1
    values = []
    for rows in np.split(order, borders):
        value = auroc(scores[rows], labels[rows], weights[rows]) if len(rows) > 1 else None
        if value is not None:
            values.append(value)
    return float(np.mean(values)) if values else None


def measure(
    logits: Sequence[float],
    labels: Sequence[float],
    weights: Sequence[float],
    problem_ids: Sequence[str],
    groups: Sequence[str] | None = None,
) -> Metrics:
    """Every metric of one set of examples; `logits` are of "ends right".

    `groups` says which examples are compared within problems, if not all of a problem.
    """
    margins, targets = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    counts = np.asarray(weights, np.float64)
    shares = counts / counts.sum()
    return Metrics(
        loss=float(shares @ (np.logaddexp(0, margins) - targets * margins)),
        brier=float(shares @ (chances(logits) - targets) ** 2),
        auroc=auroc(margins, targets, counts),
        within_auroc=within_auroc(margins, targets, counts, groups or problem_ids),
        num_examples=len(targets),
        num_problems=len(set(problem_ids)),
    )
