"""Logistic regression on states of the base model: the probe, and the head that a training begins with.

The probe reads the frozen model's last states and is the cheapest learned rival of STOP. It learns from the
same examples as the adapter and is judged on the same ones. The one setting, the penalty, is chosen on the
validation examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from solver.adapter.combine import fit_logistic
from solver.adapter.gate import Head
from solver.adapter.spec import Probe
from solver.stop.rollouts.examples import StopExample
from solver.stop.training.measuring import measure_examples

if TYPE_CHECKING:
    from solver.stop.training.learner import Learner

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def fit_probe(learner: Learner) -> tuple[Head, Probe]:
    """The head that reads the base model's last states best, and what is known of it."""
    count = len(learner.training)
    states = learner.store.states(range(count + len(learner.validation)))
    return fit_head(states[:count], learner.training, states[count:], learner.validation)


def fit_head(
    states: Tensor,
    training: Sequence[StopExample],
    held_out: Tensor,
    validation: Sequence[StopExample],
) -> tuple[Head, Probe]:
    """The best of `PENALTIES` by the Brier score on `validation`.

    `states` `[training, hidden]` and `held_out` `[validation, hidden]` are what the head reads.
    """
    features = states.numpy().astype(np.float64)
    means, scales = features.mean(axis=0), features.std(axis=0)
    scales[scales == 0] = 1.0
    labels = np.array([example.soft_label for example in training])
    shares = np.array([example.weight for example in training])
    standard, shares = (features - means) / scales, shares / shares.sum()
    best: tuple[Head, Probe] | None = None
    for l2 in PENALTIES:
        bias, *weights = fit_logistic(standard, labels, shares, l2)
        weight = np.array(weights) / scales
        logits = held_out.numpy().astype(np.float64) @ weight + (bias - weight @ means)
        metrics = measure_examples(logits.tolist(), validation)
        if best is None or metrics.brier < best[1].validation.brier:
            head = Head(len(weight))
            with torch.no_grad():
                head.weight.copy_(torch.from_numpy(weight))
                head.bias.fill_(bias - weight @ means)
            best = head, Probe(l2=l2, validation=metrics)
    assert best is not None, "there is at least one penalty"
    return best
