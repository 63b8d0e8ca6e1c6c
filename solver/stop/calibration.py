"""Calibration bins, Brier score and ROC curve of predicted probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions in one tenth of [0, 1]: their mean, how many came true, how many there are."""

    predicted: float
    observed: float
    count: int


def chances(logits: Sequence[float]) -> Array:
    """sigmoid of each logit."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float64), -500, 500))))


def brier(probabilities: Sequence[float], right: Sequence[bool]) -> float:
    """Mean of (probability - outcome)^2; 0 is perfect, 0.25 is what always saying 1/2 gets."""
    differences = np.asarray(probabilities, np.float64) - np.asarray(right, np.float64)
    return float(np.mean(differences**2))


def calibration(
    probabilities: Sequence[float], right: Sequence[bool], num_bins: int = 10
) -> list[Bin]:
    """Bins of equal width over [0, 1], without the empty ones. Raises ValueError outside of [0, 1]."""
    predicted = np.asarray(probabilities, np.float64)
    outcomes = np.asarray(right, np.float64)
    if len(predicted) and not (predicted.min() >= 0 and predicted.max() <= 1):
        raise ValueError("probabilities lie in [0, 1]")
    places = np.minimum((predicted * num_bins).astype(int), num_bins - 1)
    return [
        Bin(float(predicted[rows].mean()), float(outcomes[rows].mean()), int(rows.sum()))
        for place in range(num_bins)
        if (rows := places == place).any()
    ]


def roc(scores: Sequence[float], right: Sequence[bool]) -> tuple[Array, Array]:
    """False and true positive rates `[points]` as the threshold falls; ties are one point.

    Raises ValueError unless there are right and wrong ones.
    """
    values, outcomes = np.asarray(scores, np.float64), np.asarray(right, bool)
    if outcomes.all() or not outcomes.any():
        raise ValueError("a ROC curve needs right and wrong ones")
    order = np.argsort(-values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)  # the last one of each score
    hits = np.cumsum(outcomes[order])[last] / outcomes.sum()
    misses = np.cumsum(~outcomes[order])[last] / (~outcomes).sum()
    return np.append(0.0, misses), np.append(0.0, hits)
