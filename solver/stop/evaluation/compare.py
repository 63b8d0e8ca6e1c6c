"""Every method of pruning on the same rollouts: averages, votes and tokens, with intervals. Pure.

A problem's value is its mean over blocks of seeds; intervals come from drawing problems anew, and with
several trainings (draws of a unit) one of them for each draw of the problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from solver.policy.prune import Selection, asks_scores, prune
from solver.policy.seeds import prune_seed
from solver.policy.statistics import Interval, drawn_interval, ratio_interval
from solver.scorers import gives_chances
from solver.scorers.unscored import NONE, RANDOM
from solver.stop.calibration import brier, chances
from solver.stop.evaluation.kept import Outcome, outcome
from solver.stop.evaluation.scoring import Marked
from solver.stop.metrics import auroc

ALL = "all"  # the kind of every problem
ORACLE = "oracle"  # the method that keeps those that end right
_UNSCORED = {each.name: each.selection for each in (NONE, RANDOM)}


@dataclass(frozen=True, slots=True)
class Row:
    """One method at one launch, mark and keep, over the problems of one kind.

    `average` is avg@K|N, `vote` is cons@K|N, `tokens` a problem, `saving` the share of the tokens of
    all N that was not sampled. The AUROCs ask whether right rollouts score above wrong ones: `within`
    is the mean over problems of the pairs of one problem (and block), `overall` takes all pairs.
    `seconds` is the mean time of a Check. None where a method has no such number.
    """

    launch: int
    mark: int
    keep: int
    method: str
    kind: str
    num_problems: int
    average: Interval
    vote: Interval
    tokens: float
    saving: Interval
    within: Interval | None
    overall: float | None
    brier: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A method minus another, problem by problem, in shares of 1."""

    mark: int
    keep: int
    kind: str
    what: str
    ours: str
    theirs: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class _Problem:
    """Means over the blocks of one problem."""

    average: float
    vote: float
    tokens: float
    tokens_of_all: float


def methods_of(marked: Sequence[Marked]) -> list[str]:
    """What can be compared: without a judge, the scorers in their order, and the oracle."""
    scored = dict.fromkeys(name for unit in marked for name in unit.scores)
    return [NONE.name, RANDOM.name, *scored, ORACLE]


def kinds_of(marked: Iterable[Marked]) -> list[str]:
    """`ALL`, and the kinds of problem if there are several."""
    kinds = sorted({unit.kind for unit in marked})
    return [ALL, *kinds] if len(kinds) > 1 else [ALL]


def row(marked: Sequence[Marked], method: str, keep: int, kind: str, seed: int) -> Row:
    """The numbers of one method over the units of one mark that are of `kind`."""
    draws = by_training(_of_kind(marked, kind))
    problems = [list(_problems(units, method, keep, seed).values()) for units in draws]
    tokens = _mean_columns(problems, "tokens")
    before = _mean_columns(problems, "tokens_of_all")
    saved = [a - b for a, b in zip(before, tokens, strict=True)]
    scored = [some for units in draws if (some := [u for u in units if method in u.scores])]
    pairs = [found for units in scored if (found := _within(units, method))]
    pooled = [_pooled(units, method) for units in scored]
    overall = [value for scores, right in pooled if (value := auroc_of(scores, right)) is not None]
    briers = [brier(chances(scores).tolist(), right) for scores, right in pooled if scores]
    seconds = [u.seconds[method] for units in scored for u in units if method in u.seconds]
    return Row(
        launch=max(unit.launch for unit in draws[0]),
        mark=draws[0][0].mark,
        keep=keep,
        method=method,
        kind=kind,
        num_problems=len(problems[0]),
        average=drawn_interval(_columns(problems, "average"), seed),
        vote=drawn_interval(_columns(problems, "vote"), seed),
        tokens=float(np.mean(tokens)),
        saving=ratio_interval(saved, before, seed),
        within=drawn_interval(pairs, seed) if pairs else None,
        overall=float(np.mean(overall)) if overall else None,
        brier=float(np.mean(briers)) if briers and gives_chances(method) else None,
        seconds=float(np.mean(seconds)) if seconds else None,
    )


def differences(
    marked: Sequence[Marked], ours: str, keep: int, kind: str, seed: int
) -> list[Difference]:
    """`ours` minus every other method, in average and in vote (`none` votes with all N)."""
    draws = by_training(_of_kind(marked, kind))
    mine = [list(_problems(units, ours, keep, seed).values()) for units in draws]
    found = []
    for theirs in methods_of(marked):
        if theirs == ours:
            continue
        other = [list(_problems(units, theirs, keep, seed).values()) for units in draws]
        for what in ("average", "vote"):
            pairs = zip(_columns(mine, what), _columns(other, what), strict=True)
            minus = [[a - b for a, b in zip(*columns, strict=True)] for columns in pairs]
            interval = drawn_interval(minus, seed)
            found.append(Difference(draws[0][0].mark, keep, kind, what, ours, theirs, interval))
    return found


def dropped(unit: Marked, method: str, keep: int, seed: int) -> frozenset[int]:
    """The indices that `method` drops at the mark."""
    selection = _UNSCORED.get(method, Selection.BEST)
    scores = None
    if asks_scores(unit.waiting, keep, selection):
        values = list(map(float, unit.right)) if method == ORACLE else unit.scores[method]
        scores = dict(zip(unit.waiting, values, strict=True))
    drawn = prune_seed(seed, unit.problem_id, unit.block)
    return frozenset(prune(unit.waiting, keep, selection, method, scores, drawn).dropped)


def _of_kind(marked: Sequence[Marked], kind: str) -> list[Marked]:
    return [unit for unit in marked if kind in (ALL, unit.kind)]


def _problems(units: Sequence[Marked], method: str, keep: int, seed: int) -> dict[str, _Problem]:
    outcomes: dict[str, list[tuple[Outcome, int]]] = {}
    for unit in units:
        result = outcome(unit.ends, dropped(unit, method, keep, seed), unit.mark, unit.answer)
        everything = sum(end.num_sampled_tokens for end in unit.ends)
        outcomes.setdefault(unit.problem_id, []).append((result, everything))
    return {
        problem_id: _Problem(
            average=float(np.mean([result.average for result, _ in blocks])),
            vote=float(np.mean([result.vote_right for result, _ in blocks])),
            tokens=float(np.mean([result.tokens for result, _ in blocks])),
            tokens_of_all=float(np.mean([everything for _, everything in blocks])),
        )
        for problem_id, blocks in outcomes.items()
    }


def by_training(units: Sequence[Marked]) -> list[list[Marked]]:
    """The units of each training, all in the order of the first one's."""
    draws: dict[int, list[Marked]] = {}
    for unit in units:
        draws.setdefault(unit.draw, []).append(unit)
    place = {(unit.problem_id, unit.block): i for i, unit in enumerate(next(iter(draws.values())))}
    for some in draws.values():
        some.sort(key=lambda unit: place[unit.problem_id, unit.block])
    return list(draws.values())


def _columns(draws: Sequence[Sequence[_Problem]], name: str) -> list[list[float]]:
    return [[float(getattr(problem, name)) for problem in problems] for problems in draws]


def _mean_columns(draws: Sequence[Sequence[_Problem]], name: str) -> list[float]:
    """Of each problem the mean over trainings."""
    return [float(np.mean(values)) for values in zip(*_columns(draws, name), strict=True)]


def _pooled(units: Sequence[Marked], method: str) -> tuple[list[float], list[bool]]:
    scores = [score for unit in units for score in unit.scores[method]]
    return scores, [ends_right for unit in units for ends_right in unit.right]


def _within(units: Sequence[Marked], method: str) -> list[float]:
    """The mean AUROC of each problem that has right and wrong rollouts at the mark."""
    found = ((unit.problem_id, auroc_of(unit.scores[method], unit.right)) for unit in units)
    return list(means_by_problem(found).values())


def means_by_problem(found: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """The mean over its blocks of each problem's values; problems without any are left out."""
    by_problem: dict[str, list[float]] = {}
    for problem_id, value in found:
        if value is not None:
            by_problem.setdefault(problem_id, []).append(value)
    return {problem_id: float(np.mean(values)) for problem_id, values in by_problem.items()}


def auroc_of(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Whether right ones score above wrong ones; None without right and wrong."""
    labels = np.asarray(right, np.float64)
    return auroc(np.asarray(scores, np.float64), labels, np.ones(len(labels)))
