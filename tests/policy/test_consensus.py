from dataclasses import dataclass
from random import Random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solver.config import VoteConfig
from solver.policy.consensus import decide, early_vote, final_vote, leader_probability, settled
from solver.policy.vote import vote
from solver.types import Ballot

Stop = Literal["posterior", "certain", "off"]
STOPS: list[Stop] = ["posterior", "certain", "off"]


def cast(*answers: int | None, weight: float = 1.0) -> list[Ballot]:
    return [Ballot(index, answer, 10 + index, weight) for index, answer in enumerate(answers)]


# The rule


@pytest.mark.parametrize(
    ("a", "b", "probability"),
    [(4, 0, 0.969), (4, 1, 0.891), (6, 1, 0.965), (0, 0, 0.5), (3, 3, 0.5), (1, 0, 0.75)],
)
def test_leader_probability(a: int, b: int, probability: float) -> None:
    assert leader_probability(a, b) == pytest.approx(probability, abs=5e-4)


@given(st.integers(0, 20), st.integers(0, 20))
def test_leader_probability_is_a_fair_comparison(a: int, b: int) -> None:
    assert leader_probability(a, b) + leader_probability(b, a) == pytest.approx(1)
    assert leader_probability(a + 1, b) > leader_probability(a, b) > leader_probability(a, b + 1)


def test_leader_probability_of_negative_votes() -> None:
    with pytest.raises(ValueError, match="negative"):
        leader_probability(1, -1)


def test_posterior_stops_at_four_to_nothing() -> None:
    config = VoteConfig(stop="posterior")
    assert decide(cast(7, 7, 7), 16, config) is None
    outcome = decide(cast(7, 7, 7, 7, 5), 16, config)
    assert outcome is not None
    assert (outcome.answer, outcome.counts, outcome.decided_early) == (7, {7: 4}, True)
    assert decide(cast(7, 7, 7, 5, 7), 16, config) is None


def test_certain_stops_when_nobody_can_catch_up() -> None:
    config = VoteConfig(stop="certain")
    assert decide(cast(7, 7, 7, 7), 8, config) is None
    outcome = decide(cast(7, 7, 7, 7, 7), 8, config)
    assert outcome is not None and outcome.answer == 7 and outcome.decided_early


def test_posterior_takes_weights_for_whole_votes_with_care() -> None:
    config = VoteConfig(stop="posterior")
    assert decide(cast(7, 7, 7, 7, weight=0.99), 16, config) is None  # 3.96 is three votes
    assert decide(cast(7, 7, 7, 7, 7, weight=0.81), 16, config) is not None
    light = Ballot(99, 5, 0, 0.01)  # a hundredth is one vote
    assert decide([light, *cast(*[7] * 5)], 16, config) is None
    assert decide([light, *cast(*[7] * 6)], 16, config) is not None


def test_certain_takes_those_to_come_for_whole_votes() -> None:
    config = VoteConfig(stop="certain")
    ballots = [Ballot(0, 7, 10, 1.0), Ballot(1, 7, 11, 0.5), Ballot(2, 5, 12, 0.5)]
    assert decide(ballots, 4, config) is None  # a lead of 1, and 1 to come
    ballots[2] = Ballot(2, 5, 12, 0.49)
    outcome = decide(ballots, 4, config)
    assert outcome is not None and outcome.weights == {7: 1.5, 5: 0.49} and outcome.decided_early


def test_an_abstention_has_come() -> None:
    config = VoteConfig(stop="certain")
    outcome = decide(cast(None, None, 7, 7), 5, config)
    assert outcome is not None
    assert (outcome.answer, outcome.num_votes, outcome.decided_early) == (7, 2, True)


def test_off_waits_for_everybody() -> None:
    config = VoteConfig(stop="off")
    assert decide(cast(*[7] * 7), 8, config) is None
    outcome = decide(cast(*[7] * 8), 8, config)
    assert outcome is not None and outcome.num_votes == 8 and not outcome.decided_early


@pytest.mark.parametrize("stop", STOPS)
def test_all_in_is_always_decided(stop: Stop) -> None:
    config = VoteConfig(stop=stop)
    for answers in [(), (None, None), (5, 7), (5, None)]:
        assert decide(cast(*answers), len(answers), config) == vote(cast(*answers))


def test_more_ballots_than_voters() -> None:
    with pytest.raises(ValueError, match="3 ballots of 2 voters"):
        decide(cast(1, 2, 3), 2, VoteConfig())


# What is settled


def test_settled_waits_for_whoever_can_still_come_first() -> None:
    done = [Ballot(4, 7, 30), Ballot(1, 5, 20), Ballot(2, 5, 40)]
    assert settled(done, []) == [done[1], done[0], done[2]]
    assert settled(done, [(30, 0)]) == [done[1]]  # at 30 tokens index 0 would come before index 4
    assert settled(done, [(30, 5)]) == [done[1], done[0]]
    assert settled(done, [(0, 9), (500, 0)]) == []


# The early decision is the final one, whoever is quick


@dataclass(frozen=True)
class Race:
    """The ballots that will be, and a schedule: which voter moves next, and by how much."""

    finals: list[Ballot]
    steps: list[tuple[int, int]]


# Majority, and weights of any kind.
weights = st.sampled_from([st.just(1.0), st.just(1.0) | st.floats(0, 1, exclude_min=True)])


@st.composite
def races(draw: st.DrawFn) -> Race:
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from([None, 5, 5, 5, 7, 7, 9]), st.integers(0, 6), draw(weights)),
            min_size=1,
            max_size=9,
        )
    )
    finals = [Ballot(index, *row) for index, row in enumerate(rows)]
    # Each voter samples in strides of any length and ends in a step of its own: with an error it
    # may end without another token.
    steps = [(b.index, draw(st.integers(1, 3))) for b in finals for _ in range(7)]
    return Race(finals, draw(st.permutations(steps)))


@settings(max_examples=500)
@given(races(), st.sampled_from(STOPS), st.floats(0.6, 0.99))
def test_pitfall_9_the_early_decision_is_the_final_one(
    race: Race, stop: Stop, confidence: float
) -> None:
    config = VoteConfig(stop=stop, confidence=confidence)
    num_voters = len(race.finals)
    final = decide(race.finals, num_voters, config)
    assert final is not None
    sampled = dict.fromkeys(range(num_voters), 0)
    finished: dict[int, Ballot] = {}
    for index, stride in [(-1, 0), *race.steps]:
        if index >= 0:
            ballot = race.finals[index]
            if sampled[index] == ballot.num_sampled_tokens:
                finished[index] = ballot
            sampled[index] = min(sampled[index] + stride, ballot.num_sampled_tokens)
        unfinished = [(n, voter) for voter, n in sampled.items() if voter not in finished]
        early = decide(settled(finished.values(), unfinished), num_voters, config)
        assert early is None or early == final
    assert len(finished) == num_voters
    assert decide(settled(finished.values(), []), num_voters, config) == final


@settings(max_examples=500)
@given(races())
def test_certain_and_off_elect_whom_everybody_would(race: Race) -> None:
    everybody = vote(race.finals)
    certain = decide(race.finals, len(race.finals), VoteConfig(stop="certain"))
    off = decide(race.finals, len(race.finals), VoteConfig(stop="off"))
    assert certain is not None and certain.answer == everybody.answer
    assert off == everybody


@given(races(), st.sampled_from(STOPS), st.randoms())
def test_pitfall_9_the_order_of_completion_does_not_matter(
    race: Race, stop: Stop, random: Random
) -> None:
    shuffled = list(race.finals)
    random.shuffle(shuffled)
    config = VoteConfig(stop=stop)
    num_voters = len(shuffled)
    assert decide(shuffled, num_voters, config) == decide(race.finals, num_voters, config)


def test_pitfall_9_one_vote_never_wins_over_four() -> None:
    ballots = [Ballot(0, 1, 1), *(Ballot(index, 7, 500) for index in range(1, 5))]
    for stop in STOPS:
        outcome = decide(ballots, 5, VoteConfig(stop=stop))
        assert outcome is not None and outcome.answer == 7


def test_pitfall_10_absent_voters_are_still_to_come() -> None:
    # Two of two agree, but six have not been seen: nothing is certain, whatever became of them.
    assert decide(cast(7, 7), 8, VoteConfig(stop="certain")) is None


def test_without_the_absent_those_that_were_cast_decide() -> None:
    """Three of eight voters failed or were cut: five ballots leave the rule waiting, and still elect."""
    config = VoteConfig(stop="off")
    cast = [Ballot(index, 7 if index < 3 else 1, 10) for index in range(5)]
    assert early_vote(cast, [], 8, config) is None
    decided = final_vote(cast, 8, config)
    assert (decided.answer, decided.num_votes, decided.decided_early) == (7, 5, False)
    assert final_vote([], 8, config).answer is None


def test_an_early_vote_looks_at_settled_ballots_only() -> None:
    config = VoteConfig(stop="certain")
    cast = [Ballot(index, 7, 10 + index) for index in range(3)]
    assert early_vote(cast, [(12, 3), (20, 4)], 5, config) == decide(cast, 5, config)
    assert early_vote(cast, [(11, 3), (20, 4)], 5, config) is None  # it may still come second
