"""The vote: one trajectory, one ballot, and every tie settled by the ballots themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction

from solver.types import Ballot, Vote


def vote(ballots: Iterable[Ballot]) -> Vote:
    """The answer whose ballots weigh most: by majority, where all of them weigh 1.

    Then the answer whose voters sampled fewer tokens in the mean (among right and wrong trajectories
    the shorter is likelier right); then the smaller answer. Ballots without an answer abstain: they
    are not counted at all. Sums are exact, so the order of the ballots does not matter. `tied` says
    that weights alone did not decide. Without a single answer the outcome's `answer` is None.
    """
    cast: dict[int, list[Ballot]] = defaultdict(list)
    for ballot in ballots:
        if ballot.answer is not None:
            cast[ballot.answer].append(ballot)
    weights = {answer: _weight(voters) for answer, voters in cast.items()}

    def rank(answer: int) -> tuple[Fraction, Fraction, int]:
        return -weights[answer], _mean_tokens(cast[answer]), answer

    ranking = sorted(cast, key=rank)
    counts = {answer: len(cast[answer]) for answer in ranking}
    most, *others = [*counts.values(), 0]
    first, second = leaders(weights.values())
    return Vote(
        answer=ranking[0] if ranking else None,
        counts=counts,
        num_votes=sum(counts.values()),
        margin=most - max(others, default=0),
        tied=first > 0 and first == second,
        # No ballot weighs more than 1, so sums are counts only where every one weighs 1.
        weights={} if weights == counts else {answer: float(weights[answer]) for answer in ranking},
    )


def exact_weight(ballot: Ballot) -> Fraction:
    """The ballot's weight as a number whose sums are exact."""
    return Fraction(ballot.weight)


def leaders(weights: Iterable[Fraction]) -> tuple[Fraction, Fraction]:
    """What the leader and the runner-up weigh, 0 where there is none."""
    first, second, *_ = [*sorted(weights, reverse=True), Fraction(), Fraction()]
    return first, second


def _weight(ballots: list[Ballot]) -> Fraction:
    return sum(map(exact_weight, ballots), Fraction())


def _mean_tokens(ballots: list[Ballot]) -> Fraction:
    return Fraction(sum(ballot.num_sampled_tokens for ballot in ballots), len(ballots))
