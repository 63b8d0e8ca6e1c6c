"""How good scores of labelled prefixes are."""

from __future__ import annotations

from collections.abc import Sequence

from solver.adapter.spec import Metrics
from solver.stop.metrics import measure
from solver.stop.rollouts.examples import StopExample


def measure_examples(logits: Sequence[float], examples: Sequence[StopExample]) -> Metrics:
    """Every metric of examples, which are compared within their groups; `logits` are of "ends right"."""
    return measure(
        logits,
        [example.soft_label for example in examples],
        [example.weight for example in examples],
        [example.problem_id for example in examples],
        [example.group for example in examples],
    )
