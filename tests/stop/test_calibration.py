from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.stop.calibration import brier, calibration, chances, roc
from solver.stop.metrics import auroc


def test_chances() -> None:
    assert chances([0.0, 1e9, -1e9]).tolist() == pytest.approx([0.5, 1.0, 0.0])


def test_brier() -> None:
    assert brier([1.0, 0.0], [True, False]) == 0
    assert brier([0.5, 0.5], [True, False]) == 0.25


def test_bins() -> None:
    [low, high] = calibration([0.05, 0.07, 1.0], [False, True, True])
    assert (low.predicted, low.observed, low.count) == (pytest.approx(0.06), 0.5, 2)
    assert (high.predicted, high.observed, high.count) == (1.0, 1.0, 1)
    assert calibration([], []) == []
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        calibration([1.1], [True])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_the_area_under_the_curve_is_the_auroc(rows: list[tuple[int, bool]]) -> None:
    scores, right = [float(score) for score, _ in rows], [is_right for _, is_right in rows]
    if len(set(right)) < 2:
        with pytest.raises(ValueError, match="right and wrong"):
            roc(scores, right)
        return
    x, y = roc(scores, right)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    area = auroc(np.array(scores), np.array(right, float), np.ones(len(rows)))
    assert np.trapezoid(y, x) == pytest.approx(area)
