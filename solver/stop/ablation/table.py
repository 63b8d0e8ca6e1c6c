"""The numbers of an ablation: one line a point and method, with intervals over problems. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from solver.files.tables import csv_table, exact
from solver.policy.statistics import Interval, difference_interval, mean_interval
from solver.stop.ablation.grid import BASE
from solver.stop.ablation.results import Result, Values

METRICS = ("within", "average", "vote")  # AUROC within problems, avg@keep, cons@keep


@dataclass(frozen=True, slots=True)
class Line:
    """One method at one point. `minus_base` is paired with the same method of the base point.

    None where a number does not exist; intervals are 95 % bootstrap intervals over problems.
    """

    axis: str
    value: str
    method: str
    num_evaluated: int
    trained_problems: int
    trained_prefixes: int
    numbers: dict[str, Interval | None]
    minus_base: dict[str, Interval | None]
    seconds: float
    cpu_seconds: float


def lines_of(results: Iterable[Result], seed: int) -> list[Line]:
    """A line for every point and method, in the order of `results`, which begin with the base."""
    results = list(results)
    base = results[0]
    assert base.axis == BASE, "everything is compared with the base"
    return [_line(result, method, base, seed) for result in results for method in result.values]


def interval_of(
    result: Result, method: str, what: str, seed: int, only: Collection[str] | None = None
) -> Interval | None:
    """The mean of `what` over the problems of a point, or over those of them in `only`."""
    values = _by_problem(result, method, what)
    known = [v for name, v in values.items() if only is None or name in only]
    return mean_interval(known, seed) if known else None


def difference_of(
    ours: tuple[Result, str], theirs: tuple[Result, str], what: str, seed: int
) -> Interval | None:
    """Ours minus theirs, (point, method) each, over the problems that have both numbers."""
    mine, other = _by_problem(*ours, what), _by_problem(*theirs, what)
    shared = [name for name in mine if name in other]
    if not shared:
        return None
    return difference_interval([mine[n] for n in shared], [other[n] for n in shared], seed)


def pooled(results: Sequence[Result], value: str) -> Result:
    """Points that were evaluated on different problems, merged into one; training costs are summed."""
    first = results[0]
    values = {}
    for method in first.values:
        if all(method in result.values for result in results):
            parts = [result.values[method] for result in results]
            values[method] = Values(
                average=tuple(v for part in parts for v in part.average),
                vote=tuple(v for part in parts for v in part.vote),
                within=tuple(v for part in parts for v in part.within),
            )
    changes = {
        "value": value,
        "families": tuple(family for result in results for family in result.families),
        "problem_ids": tuple(name for result in results for name in result.problem_ids),
        "values": values,
        "seconds": sum(result.seconds for result in results),
        "cpu_seconds": sum(result.cpu_seconds for result in results),
    }
    return first.model_copy(update=changes)


def csv_of(lines: Iterable[Line]) -> str:
    """Every line with all of its numbers, shares of 1; empty where there is none."""
    ends = ("", "_low", "_high")
    head = ["axis", "value", "method", "problems", "trained_problems", "trained_prefixes"]
    head += [
        f"{what}{minus}{end}" for minus in ("", "_minus_base") for what in METRICS for end in ends
    ]
    rows = []
    for line in lines:
        cells: list[object] = [line.axis, line.value, line.method, line.num_evaluated]
        cells += [line.trained_problems, line.trained_prefixes]
        for numbers in (line.numbers, line.minus_base):
            for what in METRICS:
                cells += exact(numbers[what])
        rows.append([*cells, round(line.seconds, 1), round(line.cpu_seconds, 1)])
    return csv_table([*head, "train_seconds", "cpu_seconds"], rows)


def _line(result: Result, method: str, base: Result, seed: int) -> Line:
    comparable = result is not base and method in base.values
    return Line(
        axis=result.axis,
        value=result.value,
        method=method,
        num_evaluated=len(result.problem_ids),
        trained_problems=result.num_problems,
        trained_prefixes=result.num_examples,
        numbers={what: interval_of(result, method, what, seed) for what in METRICS},
        minus_base={
            what: difference_of((result, method), (base, method), what, seed)
            if comparable
            else None
            for what in METRICS
        },
        seconds=result.seconds,
        cpu_seconds=result.cpu_seconds,
    )


def _by_problem(result: Result, method: str, what: str) -> dict[str, float]:
    """The numbers that exist, by problem."""
    values: Sequence[float | None] = getattr(result.values[method], what)
    named = zip(result.problem_ids, values, strict=True)
    return {name: value for name, value in named if value is not None}
