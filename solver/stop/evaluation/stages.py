"""Several checks against one that samples as many tokens, on the same rollouts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from solver.policy.statistics import Interval, drawn_interval
from solver.stop.evaluation.compare import (
    Drops,
    Problem,
    by_training,
    columns,
    dropped,
    mean_column,
    minus,
    problems_of,
)
from solver.stop.evaluation.scoring import Marked
from solver.types import Check

Units = Mapping[int, Sequence[Marked]]  # of one launch, by mark
_Draws = Sequence[Sequence[Problem]]  # [trainings][problems]


@dataclass(frozen=True, slots=True)
class StagesRow:
    """Stages by one method, and what they gain over one check at `mark`, problem by problem.

    The check keeps `keep`, at which it samples as many tokens on average: 7.4 is 7 in six and 8 in four
    problems of ten, by lot. None where no keep does.
    """

    checks: tuple[Check, ...]
    method: str
    average: Interval
    vote: Interval
    tokens: float  # a problem
    mark: int
    keep: float | None
    average_gain: Interval | None
    vote_gain: Interval | None


def stages_rows(
    units: Units, plans: Iterable[tuple[Check, ...]], method: str, seed: int
) -> list[StagesRow]:
    """Each of `plans` against one check at each mark of `units`, all by `method`."""
    alone = {mark: _one_check(marked, method, seed) for mark, marked in units.items()}
    rows = []
    for checks in plans:
        drops = _drops(units, checks, method, seed)
        draws = [problems_of(some, drops) for some in by_training(units[checks[-1].mark])]
        average, vote = (drawn_interval(columns(draws, what), seed) for what in ("average", "vote"))
        tokens = _tokens(draws)
        for mark, by_keep in alone.items():
            keep = _as_dear(list(map(_tokens, by_keep)), tokens)
            gains = [
                None
                if keep is None
                else drawn_interval(minus(columns(draws, what), _mixed(by_keep, keep, what)), seed)
                for what in ("average", "vote")
            ]
            rows.append(StagesRow(checks, method, average, vote, tokens, mark, keep, *gains))
    return rows


def _drops(units: Units, checks: Sequence[Check], method: str, seed: int) -> Drops:
    """Whom the checks drop of a unit, one check after the other."""
    found = {(mark, _key(unit)): unit for mark, marked in units.items() for unit in marked}

    def drops(unit: Marked) -> Mapping[int, int]:
        gone: Mapping[int, int] = {}
        for check in checks:
            gone = dropped(found[check.mark, _key(unit)], method, check.keep, seed, gone)
        return gone

    return drops


def _key(unit: Marked) -> tuple[str, int, int]:
    return unit.problem_id, unit.block, unit.draw


def _one_check(marked: Sequence[Marked], method: str, seed: int) -> list[_Draws]:
    """The problems after one check that keeps 1, 2, ... and all."""
    draws = by_training(marked)
    return [
        [problems_of(some, partial(dropped, method=method, keep=keep, seed=seed)) for some in draws]
        for keep in range(1, max(unit.launch for unit in marked) + 1)
    ]


def _tokens(draws: _Draws) -> float:
    return float(np.mean(mean_column(draws, "tokens")))


def _as_dear(tokens_by_keep: Sequence[float], tokens: float) -> float | None:
    """The keep, from 1 on, at which `tokens` are sampled: between two whole ones in proportion."""
    for keep, (fewer, more) in enumerate(pairwise(tokens_by_keep), start=1):
        if fewer <= tokens <= more:
            return keep + ((tokens - fewer) / (more - fewer) if more > fewer else 0.0)
    return None


def _mixed(by_keep: Sequence[_Draws], keep: float, what: str) -> list[list[float]]:
    """What is expected of each problem where the two whole keeps beside `keep` are drawn by lot."""
    below = min(int(keep), len(by_keep) - 1)
    share = keep - below
    one, following = (columns(by_keep[index], what) for index in (below - 1, below))
    return [
        [(1 - share) * a + share * b for a, b in zip(*pair, strict=True)]
        for pair in zip(one, following, strict=True)
    ]
