from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from solver.policy.retention import PAPER, UNIT, Law, Point, fit, retention

TOKENS = st.floats(64, 1e6)


@pytest.mark.parametrize(
    ("budget", "prefix", "length", "expected"),
    [
        (158 * UNIT, 2048, 8650, 9.63),  # the paper's two points
        (275 * UNIT, 3072, 11950, 3.36),
        (300 * UNIT, 2 * UNIT, 20 * UNIT, 0.26),  # and where the law breaks
        (100 * UNIT, 2 * UNIT, 4 * UNIT, 234),
    ],
)
def test_check_values(budget: float, prefix: float, length: float, expected: float) -> None:
    assert retention(budget, prefix, length).inverse_gamma == pytest.approx(expected, rel=0.02)
    if expected in (9.63, 3.36):
        assert round(retention(budget, prefix, length).inverse_gamma, 2) == expected


def test_the_papers_point_needs_no_words() -> None:
    plan = retention(158 * UNIT, 2048, 8650)
    assert plan.words == ()
    assert plan.launch == math.floor(158 * UNIT / (2048 + (8650 - 2048) / plan.inverse_gamma))
    assert plan.keep == round(plan.launch / plan.inverse_gamma)


def test_outside_it_clips_and_says_so() -> None:
    never = retention(300 * UNIT, 2 * UNIT, 20 * UNIT)
    assert never.gamma == 1.0
    assert never.launch == never.keep == 15
    assert any("do not prune" in words for words in never.words)
    hard = retention(100 * UNIT, 2 * UNIT, 4 * UNIT)
    assert hard.gamma == 1 / 32
    assert any("clipped to 32" in words for words in hard.words)
    assert any("length of 4,096" in words for words in hard.words)


def test_a_budget_below_one_trajectory() -> None:
    plan = retention(1000, 500, 8650)
    assert (plan.launch, plan.keep) == (1, 1)
    assert any("one whole trajectory" in words for words in plan.words)


@pytest.mark.parametrize("values", [(0, 1, 2), (1, -1, 2), (1, 1, math.nan), (9, 2, 2), (9, 3, 2)])
def test_refusals(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        retention(*values)


@given(TOKENS, TOKENS, TOKENS)
def test_plans_hold_the_budget(budget: float, prefix: float, length: float) -> None:
    assume(prefix < length)
    plan = retention(budget, prefix, length)
    assert 1 / 32 <= plan.gamma <= 1
    assert 1 <= plan.keep <= plan.launch
    cost = plan.launch * (prefix + plan.gamma * (length - prefix))
    assert cost <= budget * (1 + 1e-9) or plan.launch == 1


def sweep(law: Law) -> list[Point]:
    return [
        Point(c, p, t, 1 / law.inverse_gamma(c, p, t))
        for c in (50_000, 100_000, 400_000)
        for p in (1000, 3000)
        for t in (8000, 15_000, 20_000)
    ]


def test_fit_finds_the_law_again() -> None:
    found = fit(sweep(PAPER))
    for name in "abcd":
        assert getattr(found, name) == pytest.approx(getattr(PAPER, name), rel=1e-6)
    assert (found.budgets, found.lengths) == ((50_000, 400_000), (8000, 20_000))


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (sweep(PAPER)[:4], "at least 5"),
        ([p for p in sweep(PAPER) if p.prefix == 1000], "prefix hardly varies"),
        ([Point(10 * n, n, 3 * n + n % 7, 0.5) for n in range(100, 108)], "vary together"),
        ([*sweep(PAPER), Point(1, 1, 1, 0)], "positive"),
    ],
)
def test_fit_says_why_it_cannot(points: list[Point], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fit(points)
