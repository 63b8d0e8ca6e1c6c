"""The vote: one trajectory, one vote, and every tie settled by the ballots themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from solver.types import Ballot, Vote


def vote(ballots: Iterable[Ballot]) -> Vote:
    """Majority vote. More votes win; then the answer whose voters sampled fewer tokens in the mean
    (among right and wrong trajectories the shorter is likelier right); then the smaller answer.

    Ballots without an answer abstain: they are not counted at all. The order of the ballots does
    not matter. `counts` lists the answers best first, `margin` is leader minus runner-up in votes
    (all the leader's votes if it is alone), `tied` says that votes alone did not decide. Without a
    single answer the outcome's `answer` is None.
    """
    votes: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    for ballot in ballots:
        if ballot.answer is not None:
            votes[ballot.answer] += 1
            tokens[ballot.answer] += ballot.num_sampled_tokens
    # Answers with equally many voters compare by total tokens as they do by the mean, but exactly.
    ranking = sorted(votes, key=lambda answer: (-votes[answer], tokens[answer], answer))
    first, second = leaders(votes)
    return Vote(
        answer=ranking[0] if ranking else None,
        counts={answer: votes[answer] for answer in ranking},
        num_votes=votes.total(),
        margin=first - second,
        tied=first > 0 and first == second,
    )


def leaders(votes: Counter[int]) -> tuple[int, int]:
    """The votes of the leader and of the runner-up, 0 where there is none."""
    first, second, *_ = [count for _, count in votes.most_common(2)] + [0, 0]
    return first, second
