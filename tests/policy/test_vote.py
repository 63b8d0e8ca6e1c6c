from fractions import Fraction
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from solver.policy.vote import vote
from solver.types import Ballot

ballots = st.lists(st.tuples(st.none() | st.integers(0, 3), st.integers(0, 20)), max_size=12).map(
    lambda rows: [Ballot(index, *row) for index, row in enumerate(rows)]
)
weights = st.just(1.0) | st.floats(0, 1, exclude_min=True)
weighed = st.lists(
    st.tuples(st.none() | st.integers(0, 3), st.integers(0, 20), weights), max_size=12
).map(lambda rows: [Ballot(index, *row) for index, row in enumerate(rows)])


def cast(*answers: int | None, tokens: list[int] | None = None) -> list[Ballot]:
    lengths = tokens or [10] * len(answers)
    return [Ballot(i, a, n) for i, (a, n) in enumerate(zip(answers, lengths, strict=True))]


def test_most_votes_win() -> None:
    outcome = vote(cast(5, 7, 7, 5, 7))
    assert (outcome.answer, outcome.counts, outcome.num_votes) == (7, {7: 3, 5: 2}, 5)
    assert (outcome.margin, outcome.tied, outcome.decided_early) == (1, False, False)


def test_a_tie_goes_to_the_shorter() -> None:
    outcome = vote(cast(5, 7, tokens=[30, 20]))
    assert (outcome.answer, outcome.margin, outcome.tied) == (7, 0, True)


def test_a_tie_in_length_goes_to_the_smaller() -> None:
    assert vote(cast(7, 5, 5, 7, tokens=[10, 12, 18, 20])).answer == 5


def test_length_never_beats_votes() -> None:
    assert vote(cast(5, 5, 7, tokens=[900, 900, 1])).answer == 5


def test_nobody_voted() -> None:
    for nobody in ([], cast(None, None)):
        outcome = vote(nobody)
        assert (outcome.answer, outcome.counts, outcome.num_votes) == (None, {}, 0)
        assert (outcome.margin, outcome.tied) == (0, False)


def test_pitfall_10_abstentions_are_no_votes() -> None:
    outcome = vote(cast(None, 5, None, None))
    assert (outcome.answer, outcome.num_votes, outcome.margin) == (5, 1, 1)
    assert vote(cast(None, 5, 7, 7)) == vote(cast(5, 7, 7))


def test_more_weight_wins_over_more_ballots() -> None:
    outcome = vote([Ballot(0, 5, 10, 0.25), Ballot(1, 5, 10, 0.5), Ballot(2, 7, 99, 0.875)])
    assert (outcome.answer, outcome.margin, outcome.num_votes) == (7, -1, 3)
    assert list(outcome.counts.items()) == [(7, 1), (5, 2)]  # the best first
    assert list(outcome.weights.items()) == [(7, 0.875), (5, 0.75)]
    assert not outcome.tied


def test_a_tie_in_weight_goes_to_the_shorter_in_the_mean() -> None:
    short = [Ballot(0, 7, 14, 0.5), Ballot(1, 7, 16, 0.5)]
    for tokens, winner in [(16, 7), (15, 5), (14, 5)]:
        outcome = vote([Ballot(2, 5, tokens, 1.0), *short])
        assert (outcome.answer, outcome.tied) == (winner, True)
    assert vote([Ballot(2, 9, 15, 1.0), *short]).answer == 7


@given(ballots | weighed, st.randoms())
def test_order_does_not_matter(ballots: list[Ballot], random: Random) -> None:
    shuffled = list(ballots)
    random.shuffle(shuffled)
    first, second = vote(ballots), vote(shuffled)
    assert first == second
    assert list(first.counts) == list(second.counts) == list(first.weights or first.counts)


@given(weighed)
def test_the_winner_weighs_most(ballots: list[Ballot]) -> None:
    outcome = vote(ballots)
    totals = {
        answer: sum(Fraction(b.weight) for b in ballots if b.answer == answer)
        for answer in outcome.counts
    }
    if outcome.answer is None:
        assert not totals
        return
    heaviest = [answer for answer, total in totals.items() if total == max(totals.values())]
    assert outcome.answer in heaviest and outcome.tied == (len(heaviest) > 1)
    others = [count for answer, count in outcome.counts.items() if answer != outcome.answer]
    assert outcome.margin == outcome.counts[outcome.answer] - max(others, default=0)
    light = any(b.weight != 1 for b in ballots if b.answer is not None)
    expected = {answer: float(total) for answer, total in totals.items()}
    assert outcome.weights == (expected if light else {})


@given(ballots)
def test_the_winner_has_most_votes_and_the_fewest_tokens_of_those(ballots: list[Ballot]) -> None:
    outcome = vote(ballots)
    assert outcome.num_votes == sum(ballot.answer is not None for ballot in ballots)
    assert outcome.weights == {}
    if outcome.answer is None:
        return

    def rank(answer: int) -> tuple[int, float, int]:
        lengths = [b.num_sampled_tokens for b in ballots if b.answer == answer]
        return -len(lengths), sum(lengths) / len(lengths), answer

    ranking = sorted(outcome.counts, key=rank)
    assert ranking[0] == outcome.answer
    others = [outcome.counts[answer] for answer in ranking[1:]]
    assert outcome.margin == outcome.counts[outcome.answer] - max(others, default=0)
    assert outcome.tied == (outcome.counts[outcome.answer] in others)
