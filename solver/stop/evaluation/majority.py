"""Why better averages need not be better votes: how a score orders a problem's rollouts where the majority of
all of them is right, and where it is wrong. A vote gains in the second kind of problem only. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from solver.policy.statistics import Interval, drawn_interval
from solver.stop.evaluation.compare import auroc_of, by_training, means_by_problem
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
    sides = [
        [[unit for unit in units if _majority_is_right(unit) is right] for units in draws]
        for right in (True, False)
    ]
    known = dict.fromkeys(name for unit in marked for name in unit.scores)
    if any(_verified(unit) for unit in marked):
        known[VERIFIED] = None
    rows = []
    for method in known:
        right, wrong = (_within(side, method, seed) for side in sides)
        if right[1] or wrong[1]:
            rows.append(MajorityRow(method, *right, *wrong))
    return rows


def _majority_is_right(unit: Marked) -> bool:
    return outcome(unit.ends, {}, unit.answer).vote_right


def _within(
    draws: Sequence[Sequence[Marked]], method: str, seed: int
) -> tuple[Interval | None, int]:
    """The AUROC within problems over the trainings that have the method, and over how many problems."""
    found = [
        means_by_problem((unit.problem_id, auroc_of(*_judged(unit, method))) for unit in units)
        for units in draws
    ]
    values = [list(means.values()) for means in found if means]
    return (drawn_interval(values, seed), len(values[0])) if values else (None, 0)


def _judged(unit: Marked, method: str) -> tuple[list[float], list[bool]]:
    """The scores, and whether the rollouts that they are of are right."""
    if method == VERIFIED:
        pairs = _verified(unit)
        return [logit for logit, _ in pairs], [right for _, right in pairs]
    return (unit.scores[method], unit.right) if method in unit.scores else ([], [])


def _verified(unit: Marked) -> list[tuple[float, bool]]:
    known = ((end.evidence.verified, end.right) for end in unit.ends)
    return [(logit, right) for logit, right in known if logit is not None]
