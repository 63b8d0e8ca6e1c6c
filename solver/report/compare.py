"""Two runs side by side: paired 95 % intervals over the problems that both have solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from solver.journal.events import Solved
from solver.journal.history import ProblemHistory
from solver.policy.statistics import difference_interval, mean_interval
from solver.report.source import RunSource, shared_problems

Measure = Callable[[ProblemHistory, Solved], float]

_MEASURES: tuple[tuple[str, Measure], ...] = (
    ("sampled tokens a problem", lambda _, solved: solved.sampled_tokens),
    ("seconds a problem", lambda _, solved: solved.elapsed_s),
    (
        "tool calls a problem",
        lambda record, _: sum(len(lane.calls) for lane in record.trajectories.values()),
    ),
    ("votes a problem", lambda _, solved: solved.num_votes),
    ("degraded answers", lambda _, solved: bool(solved.degraded)),
)


def comparison(one: RunSource, other: RunSource) -> dict[str, Any]:
    """A row for each measure: both means and other minus one, and how many problems are behind it."""
    pairs = [
        (problem.id, _solved(one, problem.id), _solved(other, problem.id))
        for problem in shared_problems((one, other)).values()
    ]
    both = [(name, ours, theirs) for name, ours, theirs in pairs if ours and theirs]
    known = [pair for pair in both if one.problems[pair[0]].answer is not None]
    rows = [
        _row(
            "accuracy",
            [float(bool(one.is_right(name, ours[1].answer))) for name, ours, _ in known],
            [float(bool(other.is_right(name, theirs[1].answer))) for name, _, theirs in known],
        )
    ]
    for name, measure in _MEASURES:
        ours = [float(measure(*ours)) for _, ours, _ in both]
        rows.append(_row(name, ours, [float(measure(*theirs)) for _, _, theirs in both]))
    return {"shared": len(both), "known": len(known), "rows": [row for row in rows if row]}


def _row(name: str, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any] | None:
    if not ours:
        return None
    difference = difference_interval(theirs, ours)
    return {
        "name": name,
        "means": [mean_interval(values).value for values in (ours, theirs)],
        "difference": [difference.value, difference.low, difference.high],
        "clear": difference.clear,
    }


def _solved(source: RunSource, name: str) -> tuple[ProblemHistory, Solved] | None:
    record = source.history.problems.get(name)
    return (record, record.solved) if record and record.solved else None
