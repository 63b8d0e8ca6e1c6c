"""Fits stop+confidence on validation examples and measures it by cross-fitting.

What is stored is fitted on all of them. What is reported comes from two fits, each on one half of the
problems and measured on the other, since a combiner is flattered by the examples it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence

from solver.adapter.combine import Combiner, combine, confidence_statistics, fit_combiner
from solver.stop.metrics import measure
from solver.stop.rollouts.examples import StopExample


def crossfit_combiner(
    logits: Sequence[float], examples: Sequence[StopExample], window: int, l2: float
) -> Combiner | None:
    """The combiner of examples that carry `logprobs`; None if a half of the problems has one class."""
    statistics = [
        confidence_statistics(example.logprobs or (), len(example.prefix_token_ids), window)
        for example in examples
    ]
    labels = [example.soft_label for example in examples]
    weights = [example.weight for example in examples]

    def fit(rows: Sequence[int]) -> Combiner:
        return fit_combiner(
            [logits[row] for row in rows],
            [statistics[row] for row in rows],
            [labels[row] for row in rows],
            weights=[weights[row] for row in rows],
            window=window,
            l2=l2,
        )

    problems = sorted({example.problem_id for example in examples})
    first = set(problems[::2])
    halves = [
        [row for row, example in enumerate(examples) if (example.problem_id in first) is side]
        for side in (True, False)
    ]
    combined = [0.0] * len(examples)
    try:
        for fitted, measured in (halves, halves[::-1]):
            combiner = fit(fitted)
            for row in measured:
                combined[row] = combine(combiner, logits[row], statistics[row])
        whole = fit(range(len(examples)))
    except ValueError:
        return None
    problem_ids, groups = [e.problem_id for e in examples], [e.group for e in examples]
    metrics = measure(combined, labels, weights, problem_ids, groups)
    return whole.model_copy(update={"brier": metrics.brier, "within_auroc": metrics.within_auroc})
