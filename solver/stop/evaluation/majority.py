"""Why better averages need not be better votes: how a score orders a problem's rollouts where the majority of
all of them is right, and where it is wrong. A vote gains in the second kind of problem only. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solver.policy.statistics import Interval, drawn_interval
from solver.stop.evaluation.compare import auroc_of, by_training
from solver.stop.evaluation.kept import outcome
from solver.stop.evaluation.scoring import Marked

VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class MajorityRow:
    """A score's AUROC within problems of either kind, None without any, over so many problems.

    Scorers order the rollouts that wait at the mark; the last check (`VERIFIED`) those with an answer.
    """

    method: str
    where_right: Interval | None
    num_right: int
    where_wrong: Interval | None
    num_wrong: int


def majority_rows(marked: Sequence[Marked], seed: int) -> list[MajorityRow]:
    """Every method that scores rollouts, over the units of one launch and mark."""
    draws = by_training(marked)
    known = dict.fromkeys(name for unit in marked for name in unit.scores)
    if any(end.evidence.verified is not None for unit in marked for end in unit.ends):
        known[VERIFIED] = None
    rows = []
    for method in known:
        found = [_aurocs(units, method) for units in draws]
        right, wrong = ([by_kind[kind] for by_kind in found if any(by_kind)] for kind in (0, 1))
        if right:
            rows.append(MajorityRow(method, *_told(right, seed), *_told(wrong, seed)))
    return rows


def _told(draws: Sequence[list[float]], seed: int) -> tuple[Interval | None, int]:
    return (drawn_interval(draws, seed) if draws[0] else None), len(draws[0])


def _aurocs(units: Sequence[Marked], method: str) -> tuple[list[float], list[float]]:
    """Of each problem with right and wrong rollouts, the mean over blocks; majority right, and wrong."""
    right: dict[str, list[float]] = {}
    wrong: dict[str, list[float]] = {}
    for unit in units:
        scores, labels = _judged(unit, method)
        value = auroc_of(scores, labels)
        if value is not None:
            majority = outcome(unit.ends, (), unit.mark, unit.answer).vote_right
            (right if majority else wrong).setdefault(unit.problem_id, []).append(value)
    return _means(right), _means(wrong)


def _judged(unit: Marked, method: str) -> tuple[list[float], list[bool]]:
    if method != VERIFIED:
        return (unit.scores[method], unit.right) if method in unit.scores else ([], [])
    asked = [end for end in unit.ends if end.evidence.verified is not None]
    return [end.evidence.verified or 0.0 for end in asked], [end.right for end in asked]


def _means(by_problem: dict[str, list[float]]) -> list[float]:
    return [float(np.mean(values)) for values in by_problem.values()]
