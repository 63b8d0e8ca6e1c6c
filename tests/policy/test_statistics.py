from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solver.policy.statistics import (
    Interval,
    difference_interval,
    drawn_interval,
    mean_interval,
    nested_interval,
    ratio_interval,
)

VALUES = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


def test_a_known_mean() -> None:
    draws = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = mean_interval(draws.tolist())
    assert found.value == pytest.approx(draws.mean())
    half = 1.96 * draws.std() / 20
    assert found.low == pytest.approx(draws.mean() - half, abs=0.03)
    assert found.high == pytest.approx(draws.mean() + half, abs=0.03)


def test_intervals_cover() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for number in range(200):
        found = mean_interval(generator.binomial(1, 0.3, 80).tolist(), number, draws=400)
        hits += found.low <= 0.3 <= found.high
    assert 178 <= hits <= 199


def test_pairing_takes_the_shared_part_away() -> None:
    generator = np.random.default_rng(2)
    shared = generator.normal(0, 10, 50)
    ours, theirs = shared + 1 + generator.normal(0, 0.1, 50), shared
    paired = difference_interval(ours.tolist(), theirs.tolist())
    assert paired.clear
    assert paired.value == pytest.approx(1, abs=0.1)
    assert paired.high - paired.low < 0.2


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no problems"):
        mean_interval([])
    with pytest.raises(ValueError, match="paired"):
        difference_interval([1.0], [])


@settings(max_examples=30)
@given(VALUES)
def test_bounds(values: list[float]) -> None:
    found = mean_interval(values, draws=200)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found == mean_interval(values, draws=200)
    ratio = ratio_interval(values, [2.0] * len(values), draws=200)
    assert ratio.value == pytest.approx(found.value / 2)


def test_nested_draws_problems_and_their_values() -> None:
    sure = nested_interval([[1.0], [0.0, 0.0], [1.0, 1.0, 1.0], [0.0]])
    assert sure.value == 0.5
    plain = mean_interval([1.0, 0.0, 1.0, 0.0])
    assert (sure.low, sure.high) == (plain.low, plain.high)
    # values that differ within problems widen the interval of problems that are alike
    alike = nested_interval([[0.0, 1.0]] * 50)
    assert alike.value == 0.5
    assert 0.3 < alike.low < 0.42 and 0.58 < alike.high < 0.7
    assert nested_interval([[0.5]] * 50) == Interval(0.5, 0.5, 0.5)
    for nothing in ([], [[1.0], []]):
        with pytest.raises(ValueError, match="no problems"):
            nested_interval(nothing)


def test_trainings_as_draws() -> None:
    problems = [float(n % 2) for n in range(50)]
    assert drawn_interval([problems], 3) == mean_interval(problems, 3)
    alike = drawn_interval([problems, problems], 3)
    assert alike.value == 0.5 and 0.3 < alike.low < 0.45
    apart = drawn_interval([[0.0] * 50, [1.0] * 50, [1.0] * 50])
    assert (round(apart.value, 3), apart.low, apart.high) == (0.667, 0, 1)
    for nothing in ([[], []], []):
        with pytest.raises(ValueError):
            drawn_interval(nothing)
