"""One rule for stopping early and for the final vote, which no race on the wall clock can change.

Ballots are looked at in settled order: by (sampled tokens, index). The outcome is the vote of the
first ballots in that order on which the rule fires. A finished ballot may be looked at only when no
unfinished one can still come before it, so what is decided early is what all ballots would decide.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace
from fractions import Fraction

from solver.config import VoteConfig
from solver.policy.vote import exact_weight, leaders, vote
from solver.types import Ballot, Vote


def leader_probability(a: int, b: int) -> float:
    """P(p > 1/2) for p ~ Beta(a + 1, b + 1): that the leader with `a` votes to `b` stays ahead.

    The posterior of the leader's share among the two leading answers, from a uniform prior, as in
    adaptive consistency (arXiv 2305.11860). For whole numbers it is a binomial tail:

        P(p > 1/2) = sum over k = 0..a of C(a + b + 1, k) / 2**(a + b + 1)

    4 to 0 gives 0.969, 4 to 1 gives 0.891, 6 to 1 gives 0.965.
    """
    if a < 0 or b < 0:
        raise ValueError(f"votes cannot be negative: {a}, {b}")
    trials = a + b + 1
    favourable = sum(math.comb(trials, k) for k in range(a + 1))
    return favourable / (1 << trials)


def settled(
    finished: Iterable[Ballot], unfinished_sampled: Iterable[tuple[int, int]]
) -> list[Ballot]:
    """The finished ballots that no unfinished one can still precede, in settled order.

    `unfinished_sampled` holds (tokens sampled so far, index) of every other voter, not started ones
    included; a count may lag behind. A voter's place in the order only moves up as it samples, and
    it may end without another token (by an error, at a deadline), so a ballot is settled exactly if
    its own (sampled tokens, index) is smaller than all of these as they stand.
    """
    earliest = min(unfinished_sampled, default=None)
    ordered = sorted(finished, key=_place)
    return [ballot for ballot in ordered if earliest is None or _place(ballot) < earliest]


def decide(ballots: Iterable[Ballot], num_voters: int, config: VoteConfig) -> Vote | None:
    """The vote of the shortest prefix, in settled order, on which the rule fires; None if it does not.

    `ballots` are all ballots or the settled ones. The rule fires when all `num_voters` are in, and
    before that, if `config.stop` is

    - "certain": when the leader's lead in weight is larger than the number of voters still to come.
      None of them weighs more than 1, so if all of them went to one other answer, it would still
      weigh less than the leader does now, and the leader only grows: all ballots elect it;
    - "posterior": when certain, or `leader_probability` of the two leaders >= `config.confidence`,
      the leader's weight taken down and the runner-up's up to a whole number of votes;
    - "off": never.

    Abstentions have come, but are no votes. The vote counts the prefix only; `decided_early` says
    that it is not everybody. The weights must be those of the final vote. Raises ValueError for more
    ballots than voters.
    """
    ordered = sorted(ballots, key=_place)
    if len(ordered) > num_voters:
        raise ValueError(f"{len(ordered)} ballots of {num_voters} voters")
    weights: dict[int, Fraction] = defaultdict(Fraction)
    for seen, ballot in enumerate(ordered, start=1):
        if ballot.answer is not None:
            weights[ballot.answer] += exact_weight(ballot)
        to_come = num_voters - seen
        if _fires(weights.values(), to_come, config):
            return replace(vote(ordered[:seen]), decided_early=to_come > 0)
    return vote(()) if num_voters == 0 else None


def early_vote(
    finished: Iterable[Ballot],
    unfinished_sampled: Iterable[tuple[int, int]],
    num_voters: int,
    config: VoteConfig,
) -> Vote | None:
    """The vote if the settled ballots decide it already; see `settled` and `decide`."""
    return decide(settled(finished, unfinished_sampled), num_voters, config)


def final_vote(ballots: Collection[Ballot], num_voters: int, config: VoteConfig) -> Vote:
    """The vote when no further ballot comes, by the same rule.

    After a failure, or at a deadline, some of the `num_voters` never cast one: if the rule then waits
    for them, the ballots that were cast decide.
    """
    decided = decide(ballots, num_voters, config) or decide(ballots, len(ballots), config)
    assert decided is not None, "with every ballot in, the rule always decides"
    return decided


def _fires(weights: Iterable[Fraction], to_come: int, config: VoteConfig) -> bool:
    if to_come == 0:
        return True
    if config.stop == "off":
        return False
    first, second = leaders(weights)
    if first - second > to_come:
        return True
    if config.stop == "certain":
        return False
    return leader_probability(math.floor(first), math.ceil(second)) >= config.confidence


def _place(ballot: Ballot) -> tuple[int, int]:
    return ballot.num_sampled_tokens, ballot.index
