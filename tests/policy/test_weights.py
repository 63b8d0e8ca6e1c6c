import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.config import VoteConfig
from solver.policy.weights import weigh
from solver.types import Ballot

WEIGHTED = VoteConfig(rule="weighted")
BALLOTS = [Ballot(3, 7, 20), Ballot(0, 5, 30), Ballot(1, None, 5)]


def test_by_majority_every_ballot_counts_one() -> None:
    assert weigh(BALLOTS, {0: 2.0, 3: -2.0}, VoteConfig()) == BALLOTS


def test_a_ballot_weighs_its_chance() -> None:
    weighed = weigh(BALLOTS, {0: 2.0, 1: 0.0, 3: -2.0}, WEIGHTED)
    assert [b.weight for b in weighed] == pytest.approx([0.1192, 0.8808, 0.5], abs=1e-4)
    assert [(b.index, b.answer) for b in weighed] == [(3, 7), (0, 5), (1, None)]


def test_without_a_score_it_weighs_the_mean_of_those_scored() -> None:
    weighed = weigh(BALLOTS, {0: 2.0, 9: -2.0, 8: -2.0}, WEIGHTED)  # 8 and 9 were dropped
    assert [b.weight for b in weighed] == pytest.approx([0.3731, 0.8808, 0.3731], abs=1e-4)


def test_without_any_score_it_is_a_majority() -> None:
    assert weigh(BALLOTS, {}, WEIGHTED) == BALLOTS


@given(st.dictionaries(st.integers(0, 3), st.floats(allow_nan=False), min_size=1))
def test_every_weight_is_a_share_above_nothing(scores: dict[int, float]) -> None:
    assert all(0 < ballot.weight <= 1 for ballot in weigh(BALLOTS, scores, WEIGHTED))
