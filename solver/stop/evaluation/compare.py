"""Every method of pruning on the same rollouts: averages, votes and tokens, with intervals. Pure.

A problem's value is its mean over blocks of seeds; intervals come from drawing problems anew, and with
several trainings (draws of a unit) one of them for each draw of the problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

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
Drops = Callable[[Marked], Mapping[int, int]]  # of a unit: the mark of each index that is dropped
_NOBODY: Mapping[int, int] = MappingProxyType({})
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
class Problem:
    """A problem after pruning: means over its blocks, as `Row` names them."""

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
    drops = partial(dropped, method=method, keep=keep, seed=seed)
    problems = [problems_of(units, drops) for units in draws]
    tokens = mean_column(problems, "tokens")
    before = mean_column(problems, "tokens_of_all")
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
        average=drawn_interval(columns(problems, "average"), seed),
        vote=drawn_interval(columns(problems, "vote"), seed),
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
    drops = partial(dropped, keep=keep, seed=seed)
    mine = [problems_of(units, partial(drops, method=ours)) for units in draws]
    found = []
    for theirs in methods_of(marked):
        if theirs == ours:
            continue
        other = [problems_of(units, partial(drops, method=theirs)) for units in draws]
        for what in ("average", "vote"):
            interval = drawn_interval(minus(columns(mine, what), columns(other, what)), seed)
            found.append(Difference(draws[0][0].mark, keep, kind, what, ours, theirs, interval))
    return found


def dropped(
    unit: Marked, method: str, keep: int, seed: int, before: Mapping[int, int] = _NOBODY
) -> dict[int, int]:
    """Whom `method` drops at the mark, and who was dropped `before`: the mark of each by its index."""
    waiting = [index for index in unit.waiting if index not in before]
    selection = _UNSCORED.get(method, Selection.BEST)
    scores = None
    if asks_scores(waiting, keep, selection):
        values = list(map(float, unit.right)) if method == ORACLE else unit.scores[method]
        known = dict(zip(unit.waiting, values, strict=True))
        scores = {index: known[index] for index in waiting}
    drawn = prune_seed(seed, unit.problem_id, unit.block)
    decision = prune(waiting, keep, selection, method, scores, drawn)
    return {**before, **dict.fromkeys(decision.dropped, unit.mark)}


def _of_kind(marked: Sequence[Marked], kind: str) -> list[Marked]:
    return [unit for unit in marked if kind in (ALL, unit.kind)]


def problems_of(units: Sequence[Marked], drops: Drops) -> list[Problem]:
    """The problems of these units in their order, after `drops`."""
    outcomes: dict[str, list[tuple[Outcome, int]]] = {}
    for unit in units:
        result = outcome(unit.ends, drops(unit), unit.answer)
        everything = sum(end.num_sampled_tokens for end in unit.ends)
        outcomes.setdefault(unit.problem_id, []).append((result, everything))
    return [
        Problem(
            average=float(np.mean([result.average for result, _ in blocks])),
            vote=float(np.mean([result.vote_right for result, _ in blocks])),
            tokens=float(np.mean([result.tokens for result, _ in blocks])),
            tokens_of_all=float(np.mean([everything for _, everything in blocks])),
        )
        for blocks in outcomes.values()
    ]


def by_training(units: Sequence[Marked]) -> list[list[Marked]]:
    """The units of each training, all in the order of the first one's."""
    draws: dict[int, list[Marked]] = {}
    for unit in units:
        draws.setdefault(unit.draw, []).append(unit)
    place = {(unit.problem_id, unit.block): i for i, unit in enumerate(next(iter(draws.values())))}
    for some in draws.values():
        some.sort(key=lambda unit: place[unit.problem_id, unit.block])
    return list(draws.values())


def columns(draws: Sequence[Sequence[Problem]], name: str) -> list[list[float]]:
    """One number of each problem `[trainings][problems]`."""
    return [[float(getattr(problem, name)) for problem in problems] for problems in draws]


def mean_column(draws: Sequence[Sequence[Problem]], name: str) -> list[float]:
    """One number of each problem, the mean over trainings."""
    return [float(np.mean(values)) for values in zip(*columns(draws, name), strict=True)]


def minus(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> list[list[float]]:
    """`ours` less `theirs`, `[trainings][problems]`."""
    return [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(ours, theirs, strict=True)]


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
