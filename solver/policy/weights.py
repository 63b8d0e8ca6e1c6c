"""What a ballot weighs: one, the chance that its trajectory ends right as said at the check, or its evidence.

A ballot's weight is known when it is cast and does not depend on the ballots after it, and none weighs more
than 1: so an early vote can be certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from statistics import fmean

from solver.config import VoteConfig, VoteRule
from solver.policy.confidence import mean_confidence, tail_entropy
from solver.types import Ballot, Evidence, Trajectory

# Rules that need what an engine tells of the candidates of each token.
BY_CANDIDATES: frozenset[VoteRule] = frozenset({"confidence", "entropy"})
BY_EVIDENCE = BY_CANDIDATES | {"verified"}  # rules that weigh by a trajectory's evidence

MOST_CONFIDENCE = 32.0  # nats: what weighs 1; a model in 16 bits hardly tells more
LEAST_ENTROPY = 0.01  # nats: what weighs 1, so that no ballot outweighs all others by being short
_LEAST = 1e-9  # no ballot is worth nothing
_UNKNOWN = 0.5  # the weight of a ballot without the evidence that its rule asks for


def evidence_of(trajectory: Trajectory, verified: float | None = None) -> Evidence:
    """What an ended trajectory's tokens say, where the engine told of the candidates of each of them.

    `verified` is what the last check said of it.
    """
    count = trajectory.num_sampled_tokens
    confidences, entropies = trajectory.confidences, trajectory.entropies
    return Evidence(
        confidence=mean_confidence(confidences) if count and len(confidences) == count else None,
        entropy=tail_entropy(entropies) if count and len(entropies) == count else None,
        verified=verified,
    )


def evidence_for(rule: VoteRule, evidence: Evidence) -> float | None:
    """The number that `rule` weighs by, None if it is not known; for rules that ask for evidence."""
    number: float | None = getattr(evidence, rule)
    return number


def weigh(
    ballots: Iterable[Ballot], scores: Mapping[int, float], config: VoteConfig
) -> list[Ballot]:
    """The ballots with their weights under `config.rule`, in their order.

    majority    1
    weighted    the chance that the check gave its trajectory: `scores` are logits of "ends right", by
                index. One without a score (it ended before the mark, or in an earlier process) weighs the
                mean chance of all that have one; without any (nothing was to be pruned, or the scorer
                failed) all weigh 1
    confidence  the mean confidence of its tokens, as a share of `MOST_CONFIDENCE`
    entropy     1 / the mean entropy of its tail, as a share of 1 / `LEAST_ENTROPY`
    verified    the chance that its answer is right, as the last check said

    Where the evidence is not known, a ballot weighs 1/2.
    """
    if config.rule == "majority" or (config.rule == "weighted" and not scores):
        return list(ballots)
    if config.rule == "weighted":
        chances = {index: _chance(score) for index, score in scores.items()}
        usual = fmean(chances.values())
        return [replace(ballot, weight=chances.get(ballot.index, usual)) for ballot in ballots]
    return [replace(ballot, weight=_weight(config.rule, ballot.evidence)) for ballot in ballots]


def _weight(rule: VoteRule, evidence: Evidence) -> float:
    number = evidence_for(rule, evidence)
    return _UNKNOWN if number is None else min(1.0, max(_LEAST, _SHARES[rule](number)))


def _chance(logit: float) -> float:
    """The sigmoid, by way of tanh, which never overflows."""
    return max(_LEAST, (1 + math.tanh(logit / 2)) / 2)


_SHARES: dict[VoteRule, Callable[[float], float]] = {
    "confidence": lambda nats: nats / MOST_CONFIDENCE,
    "entropy": lambda nats: LEAST_ENTROPY / max(nats, LEAST_ENTROPY),
    "verified": _chance,
}
