import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.policy.confidence import (
    lowest_group_confidence,
    mean_confidence,
    mean_logprob,
    negative_entropy,
    tail_entropy,
)


def test_mean() -> None:
    assert mean_logprob([-1.0, -3.0]) == -2.0
    assert mean_logprob((0.0,)) == 0.0
    assert mean_logprob([-math.inf, -1.0]) == -math.inf


def test_nothing_sampled() -> None:
    with pytest.raises(ValueError, match="no sampled tokens"):
        mean_logprob([])


@given(st.lists(st.floats(-100, 0), min_size=1), st.randoms())
def test_order_does_not_matter(logprobs: list[float], random: Random) -> None:
    shuffled = list(logprobs)
    random.shuffle(shuffled)
    assert mean_logprob(logprobs) == mean_logprob(shuffled)
    assert min(logprobs) - 1e-9 <= mean_logprob(logprobs) <= max(logprobs) + 1e-9


def test_entropy() -> None:
    assert negative_entropy([0.5, 1.5]) == -1.0
    with pytest.raises(ValueError, match="no sampled tokens"):
        negative_entropy([])


def test_lowest_group() -> None:
    assert lowest_group_confidence([5.0, 1.0, 3.0, 9.0], 2) == 2.0
    assert lowest_group_confidence([5.0, 1.0, 3.0, 9.0], 9) == 4.5
    for values, window in (([], 2), ([1.0], 0)):
        with pytest.raises(ValueError, match=r"no sampled|at least"):
            lowest_group_confidence(values, window)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.integers(1, 25))
def test_a_group_is_never_above_the_mean_of_the_best(values: list[float], window: int) -> None:
    lowest = lowest_group_confidence(values, window)
    assert min(values) - 1e-9 <= lowest <= max(values) + 1e-9
    if window >= len(values):
        assert lowest == pytest.approx(sum(values) / len(values))


def test_the_confidence_of_a_trajectory_is_the_mean_of_its_tokens() -> None:
    assert mean_confidence([9.0, 12.0]) == 10.5
    with pytest.raises(ValueError, match="no sampled tokens"):
        mean_confidence([])


def test_the_tail_is_the_last_tokens_or_all() -> None:
    assert tail_entropy([4.0, 1.0, 0.0], tail=2) == 0.5
    assert tail_entropy([4.0, 1.0, 1.0], tail=9) == 2.0
    with pytest.raises(ValueError, match="no sampled tokens"):
        tail_entropy([])
