"""The outcome of a problem when only some of its rollouts are kept at the mark: pure, from full rollouts.

Every rollout was taken to its end, so each method is judged on the same ones: those it drops cost the
tokens up to the mark, those it keeps all of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solver.policy.vote import vote
from solver.types import NO_EVIDENCE, Ballot, Evidence


@dataclass(frozen=True, slots=True)
class End:
    """How a rollout ended: its answer, whether that is right, and the tokens it sampled in all.

    `evidence` is by what its ballot may be weighed, as far as the whole rollout is stored.
    """

    index: int
    answer: int | None
    right: bool
    num_sampled_tokens: int
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class Outcome:
    """A problem after pruning.

    `average` is the share of right ends among the voters (avg@K|N), `vote_right` whether their
    majority vote is right (cons@K|N), `tokens` what was sampled for it.
    """

    average: float
    vote_right: bool
    tokens: int


def outcome(ends: Sequence[End], dropped: Mapping[int, int], answer: int) -> Outcome:
    """The outcome when rollouts end at a mark, without a vote: `dropped` has the mark of each by its index.

    Those that ended before a mark vote with the kept ones, as in a run. Raises ValueError if no rollout
    is left.
    """
    voters = [end for end in ends if end.index not in dropped]
    if not voters:
        raise ValueError("no rollout was kept")
    ballots = [Ballot(end.index, end.answer, end.num_sampled_tokens) for end in voters]
    return Outcome(
        average=sum(end.right for end in voters) / len(voters),
        vote_right=vote(ballots).answer == answer,
        tokens=sum(end.num_sampled_tokens for end in voters) + sum(dropped.values()),
    )
