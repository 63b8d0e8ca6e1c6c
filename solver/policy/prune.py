"""Which of the paused trajectories go on."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Protocol

from solver.config import PruneConfig
from solver.types import PruneDecision, PruneReason


class Selection(StrEnum):
    """Which of the trajectories at the mark a method keeps."""

    BEST = "best"  # those with the highest scores
    RANDOM = "random"  # as many, drawn by the seed
    ALL = "all"  # nobody is dropped

    def of(self, config: PruneConfig) -> PruneConfig:
        """`config` as it is meant: where nobody is dropped, all that are launched are kept."""
        return (
            config.model_copy(update={"keep": config.launch, "stages": None})
            if self is Selection.ALL
            else config
        )


class _Scored(Protocol):
    """A decision, or what the journal has of it."""

    @property
    def scores(self) -> Mapping[int, float]: ...


def asks_scores(waiting: Collection[int], keep: int, selection: Selection) -> bool:
    """Whether scores decide who of `waiting` goes on: some must be dropped, and not by lot."""
    return len(waiting) > keep and selection is Selection.BEST


def prune(
    waiting: Collection[int],
    keep: int,
    selection: Selection,
    method: str,
    scores: Mapping[int, float] | None,
    seed: int,
    error: str | None = None,
) -> PruneDecision:
    """Who of those at the mark goes on: all, if no more than `keep` wait or nobody is to be dropped.

    Otherwise the best by `scores` (trajectory index to score), and without scores a choice drawn by
    `seed`: that is the selection "random", and with an `error` the fallback for a scorer that failed.
    `method` names the scorer in the decision. Raises ValueError for a score that is not finite and for
    a `keep` below 1.
    """
    if selection is Selection.ALL or len(waiting) <= keep:
        return keep_all(waiting, method)
    if scores is None:
        return choose_random(waiting, keep, seed, method, error)
    return choose(scores, keep, method)


def choose(scores: Mapping[int, float], keep: int, method: str) -> PruneDecision:
    """Keep the `keep` highest scores (all, if there are fewer); of equal ones the lower index.

    `scores` maps trajectory index to score. Raises ValueError for a score that is not finite and
    for a `keep` below 1.
    """
    _check_keep(keep)
    for index, score in scores.items():
        if not math.isfinite(score):
            raise ValueError(f"the score of trajectory {index} is {score}")
    ranking = sorted(scores, key=lambda index: (-scores[index], index))
    return _decision(scores, ranking[:keep], scores, method, PruneReason.SCORED)


def choose_random(
    indices: Iterable[int], keep: int, seed: int, method: str, error: str | None = None
) -> PruneDecision:
    """Keep `keep` of `indices` (all, if there are fewer), drawn by `seed` alone.

    With an `error` it is the fallback for a scorer that failed; without, random is the method.
    """
    _check_keep(keep)
    ordered = sorted(indices)
    kept = random.Random(seed).sample(ordered, min(keep, len(ordered)))
    reason = PruneReason.SCORED if error is None else PruneReason.FALLBACK_RANDOM
    return _decision(ordered, kept, {}, method, reason, error)


def keep_all(indices: Iterable[int], method: str) -> PruneDecision:
    """Keep everyone: there is nothing to prune."""
    everyone = sorted(indices)
    return _decision(everyone, everyone, {}, method, PruneReason.SKIPPED)


def last_scores(checks: Iterable[_Scored]) -> dict[int, float]:
    """Each trajectory's score at the last mark where it was scored: what its ballot weighs by."""
    return {index: score for check in checks for index, score in check.scores.items()}


def _check_keep(keep: int) -> None:
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}")


def _decision(
    indices: Iterable[int],
    kept: Iterable[int],
    scores: Mapping[int, float],
    method: str,
    reason: PruneReason,
    error: str | None = None,
) -> PruneDecision:
    chosen = set(kept)
    return PruneDecision(
        kept=tuple(sorted(chosen)),
        dropped=tuple(sorted(set(indices) - chosen)),
        scores={index: scores[index] for index in sorted(scores)},
        method=method,
        reason=reason,
        error=error,
    )
