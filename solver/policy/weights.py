"""What a ballot weighs: one, or the chance that its trajectory ends right, as said at the check."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import fmean

from solver.config import VoteConfig
from solver.types import Ballot

_LEAST = 1e-9  # no ballot is worth nothing


def weigh(
    ballots: Iterable[Ballot], scores: Mapping[int, float], config: VoteConfig
) -> list[Ballot]:
    """The ballots with their weights under `config.rule`, in their order.

    `scores` are the check's: logits of "ends right", by trajectory index. A ballot of a trajectory
    without a score (it ended before the mark, or in an earlier process) weighs the mean chance of all
    that have one. By majority, or without any scores (nothing was to be pruned, or the scorer failed),
    the ballots stay as they are.
    """
    if config.rule == "majority" or not scores:
        return list(ballots)
    chances = {index: _chance(score) for index, score in scores.items()}
    usual = fmean(chances.values())
    return [replace(ballot, weight=chances.get(ballot.index, usual)) for ballot in ballots]


def _chance(logit: float) -> float:
    """The sigmoid, by way of tanh, which never overflows."""
    return max(_LEAST, (1 + math.tanh(logit / 2)) / 2)
