import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.policy.confidence import mean_logprob


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
