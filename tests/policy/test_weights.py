import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.config import VoteConfig
from solver.policy.weights import LEAST_ENTROPY, MOST_CONFIDENCE, evidence_of, weigh
from solver.types import Ballot, Evidence, Trajectory, Turn

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


def evident(**known: float) -> Ballot:
    return Ballot(0, 7, 20, evidence=Evidence(**known))


def weight(rule: str, ballot: Ballot) -> float:
    [weighed] = weigh([ballot], {0: 5.0}, VoteConfig.model_validate({"rule": rule}))
    return weighed.weight


def test_by_confidence_a_ballot_weighs_in_proportion_to_it() -> None:
    one, other = (weight("confidence", evident(confidence=c, entropy=0.5)) for c in (8.0, 12.0))
    assert other / one == pytest.approx(12 / 8) and one == 8 / MOST_CONFIDENCE
    assert weight("confidence", evident(confidence=MOST_CONFIDENCE + 9)) == 1


def test_by_entropy_a_ballot_weighs_inversely_to_it() -> None:
    one, other = (weight("entropy", evident(entropy=h, confidence=9.0)) for h in (0.1, 0.4))
    assert one / other == pytest.approx(4) and one == pytest.approx(LEAST_ENTROPY / 0.1)
    assert weight("entropy", evident(entropy=0.0)) == 1


@pytest.mark.parametrize("rule", ["confidence", "entropy"])
def test_without_evidence_a_ballot_weighs_half(rule: str) -> None:
    assert weight(rule, evident()) == 0.5


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_by_evidence_every_weight_is_a_share_above_nothing(first: float, second: float) -> None:
    ballot = evident(confidence=first, entropy=second)
    assert all(0 < weight(rule, ballot) <= 1 for rule in ("confidence", "entropy"))


def test_the_evidence_is_the_mean_over_all_turns_and_that_of_the_tail() -> None:
    turns = [Turn([1], [-1.0], [9.0], [0.5]), Turn([2, 3], [-1.0] * 2, [12.0] * 2, [0.2, 0.2])]
    found = evidence_of(Trajectory("p", 0, 0, (1,), turns))
    assert found == Evidence(confidence=11.0, entropy=pytest.approx(0.3))


def test_an_engine_that_told_of_some_tokens_only_is_no_evidence() -> None:
    turns = [Turn([1], [-1.0], [9.0], [0.5]), Turn([2], [-1.0])]
    assert evidence_of(Trajectory("p", 0, 0, (1,), turns)) == Evidence()
    assert evidence_of(Trajectory("p", 0, 0, (1,))) == Evidence()
