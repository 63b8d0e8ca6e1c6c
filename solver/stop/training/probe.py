"""Trains the probe: logistic regression on the base model's last states, the cheapest learned rival of STOP.

It learns from the same examples as the adapter and is judged on the same ones. Its one setting, the
penalty, is chosen on the validation examples.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from solver.adapter.combine import fit_logistic
from solver.adapter.gate import Head
from solver.adapter.spec import Probe
from solver.stop.training.learner import Learner
from solver.stop.training.measuring import measure_examples

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)

Array = NDArray[np.float64]


def fit_probe(learner: Learner) -> tuple[Head, Probe]:
    """The head and what is known of it; the best of `PENALTIES` by the validation Brier score."""
    count = len(learner.training)
    features = _states(learner, range(count))
    held_out = _states(learner, range(count, count + len(learner.validation)))
    means, scales = features.mean(axis=0), features.std(axis=0)
    scales[scales == 0] = 1.0
    labels = np.array([example.soft_label for example in learner.training])
    shares = np.array([example.weight for example in learner.training])
    standard, shares = (features - means) / scales, shares / shares.sum()
    best: tuple[Head, Probe] | None = None
    for l2 in PENALTIES:
        bias, *weights = fit_logistic(standard, labels, shares, l2)
        weight = np.array(weights) / scales
        bias -= weight @ means
        metrics = measure_examples((held_out @ weight + bias).tolist(), learner.validation)
        if best is None or metrics.brier < best[1].validation.brier:
            head = Head(len(weight))
            with torch.no_grad():
                head.weight.copy_(torch.from_numpy(weight))
                head.bias.fill_(bias)
            best = head, Probe(l2=l2, validation=metrics)
    assert best is not None, "there is at least one penalty"
    return best


def _states(learner: Learner, rows: range) -> Array:
    return learner.store.states(rows).numpy().astype(np.float64)
