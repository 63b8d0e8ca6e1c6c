from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.adapter.combine import (
    STATISTICS,
    Combiner,
    combine,
    confidence_statistics,
    fit_combiner,
)
from solver.stop.metrics import auroc, measure, within_auroc
from solver.stop.rollouts.examples import StopExample
from solver.stop.training.crossfit import crossfit_combiner

LOGPROBS = st.lists(st.floats(-20, 0), min_size=1, max_size=40)


def test_statistics_by_hand() -> None:
    values = confidence_statistics([-1.0, -3.0, -5.0, -1.0], 50, window=2)
    assert values == pytest.approx((-2.5, -4.0, -3.0, -5.0, 50.0))
    assert len(values) == len(STATISTICS)
    assert confidence_statistics([-2.0], 9, window=8) == (-2.0, -2.0, -2.0, -2.0, 9.0)
    with pytest.raises(ValueError, match="no sampled tokens"):
        confidence_statistics([], 9, window=8)


@given(logprobs=LOGPROBS, window=st.integers(1, 10))
def test_statistics_are_ordered(logprobs: list[float], window: int) -> None:
    mean, lowest, tail, least, _ = confidence_statistics(logprobs, 1, window)
    assert least - 1e-9 <= lowest <= tail + 1e-9 and least - 1e-9 <= mean


def planted(count: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(count, 6)) * [1, 2, 0.5, 1, 3, 0] + [0, 1, -2, 0, 5, 7]
    weights = np.array([1.0, 0.5, -1.0, 0.0, 0.3, 0.0])
    logits = 0.4 + (features - features.mean(0)) @ weights
    return features, weights, logits, (draw.random(count) < 1 / (1 + np.exp(-logits))).astype(float)


def test_planted_weights_are_recovered() -> None:
    features, weights, logits, labels = planted()
    combiner = fit_combiner(
        features[:, 0].tolist(), features[:, 1:].tolist(), labels.tolist(), l2=1e-6
    )
    found = np.array(combiner.weights) / combiner.scales
    assert found == pytest.approx(weights, abs=0.1)
    assert combiner.bias == pytest.approx(0.4, abs=0.06)
    assert combiner.weights[-1] == 0  # a feature that never varies
    assert combiner.names == ("stop", *STATISTICS)
    applied = [combine(combiner, row[0], row[1:]) for row in features[:200].tolist()]
    assert np.corrcoef(applied, logits[:200])[0, 1] > 0.99


def test_weights_count_as_repetitions() -> None:
    features, _, _, labels = planted(400)
    counts = np.random.default_rng(1).integers(1, 4, size=400)
    stop, rest = features[:, 0], features[:, 1:]
    weighted = fit_combiner(stop, rest, labels, weights=counts.astype(float))
    repeated = fit_combiner(
        np.repeat(stop, counts), np.repeat(rest, counts, 0), np.repeat(labels, counts)
    )
    assert weighted.weights == pytest.approx(repeated.weights, abs=1e-8)


@given(
    logit=st.floats(-50, 50),
    step=st.floats(0.001, 20),
    logprobs=LOGPROBS,
    weights=st.lists(st.floats(0.01, 5), min_size=6, max_size=6),
)
def test_it_is_monotone_in_stops_logit(
    logit: float, step: float, logprobs: list[float], weights: list[float]
) -> None:
    combiner = Combiner(
        names=("stop", *STATISTICS), means=(0.0,) * 6, scales=(1.5,) * 6, weights=tuple(weights),
        bias=0.1, window=4, num_examples=1,
    )  # fmt: skip
    statistics = confidence_statistics(logprobs, 30, combiner.window)
    assert combine(combiner, logit + step, statistics) > combine(combiner, logit, statistics)


def test_separable_data_stays_finite_and_one_class_is_refused() -> None:
    separable = fit_combiner([-1.0, -2.0, 3.0, 4.0], [[0.0] * 5] * 4, [0, 0, 1, 1], l2=1e-3)
    assert all(map(math.isfinite, separable.weights)) and separable.weights[0] > 0
    with pytest.raises(ValueError, match="right and wrong"):
        fit_combiner([1.0, 2.0], [[0.0] * 5] * 2, [1, 1])


def test_crossfit_reports_on_problems_it_was_not_fitted_on() -> None:
    draw = np.random.default_rng(2)
    examples, logits = [], []
    for index in range(600):
        plan, copied = draw.random() < 0.5, draw.random() < 0.6
        examples.append(
            StopExample(
                prefix_token_ids=(1, 2, 3), soft_label=float(plan and copied),
                problem_id=str(index // 12), logprobs=(-0.1, -0.2 if copied else -4.0, -0.1),
            )
        )  # fmt: skip
        logits.append(float(draw.normal() + (2 if plan else -2)))
    combiner = crossfit_combiner(logits, examples, window=2, l2=1e-2)
    labels = [e.soft_label for e in examples]
    alone = measure(logits, labels, [1.0] * 600, [e.problem_id for e in examples])
    assert combiner is not None and combiner.within_auroc is not None
    assert alone.within_auroc is not None and combiner.within_auroc > alone.within_auroc + 0.05
    one_class = [e.model_copy(update={"soft_label": 1.0}) for e in examples]
    assert crossfit_combiner(logits, one_class, window=2, l2=1e-2) is None


SCORES = st.lists(
    st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.25, 1.0]), st.integers(1, 3)),
    min_size=1, max_size=20,
)  # fmt: skip


@given(rows=SCORES)
def test_auroc_is_the_share_of_pairs(rows: list[tuple[int, float, int]]) -> None:
    scores, labels, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    pairs = won = 0.0
    for score, label, weight in rows:
        for other, other_label, other_weight in rows:
            mass = label * weight * (1 - other_label) * other_weight
            pairs += mass
            won += mass * ((score > other) + 0.5 * (score == other))
    found = auroc(scores, labels, weights)
    assert found is None if pairs == 0 else found == pytest.approx(won / pairs)


def test_within_problems_and_brier() -> None:
    labels, ones = np.array([1.0, 0, 1, 0, 1]), np.ones(5)
    scores = np.array([2.0, 1, -1, -2, 0])
    assert within_auroc(scores, labels, ones, ["a", "a", "b", "b", "c"]) == 1.0
    assert within_auroc(scores, labels, ones, ["a", "b", "c", "d", "e"]) is None
    metrics = measure([0.0, 0.0], [1.0, 0.5], [1.0, 3.0], ["a", "b"])
    assert metrics.brier == pytest.approx(0.25 * 0.25)
    assert metrics.loss == pytest.approx(math.log(2))
    assert metrics.num_problems == 2 and metrics.gate_auroc == metrics.auroc
