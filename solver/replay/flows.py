"""Concurrency in a recording: how many spans ran at a time, and how much of them fell into a period."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from solver.journal.history import ProblemHistory, Span

Array = NDArray[np.float64]


def num_running(spans: Sequence[Span], times: Array) -> Array:
    """How many spans run from each of `times` to the next."""
    change = np.zeros(len(times))
    np.add.at(change, np.searchsorted(times, [s.started for s in spans]), 1)
    np.add.at(change, np.searchsorted(times, [s.ended for s in spans]), -1)
    return np.cumsum(change)


class Flow:
    """The sum of amounts that are each spread evenly over a span."""

    def __init__(self, spans: Sequence[Span], amounts: Sequence[float]) -> None:
        self._times = np.unique([time for s in spans for time in (s.started, s.ended)])
        rate = np.zeros(len(self._times))
        for span, amount in zip(spans, amounts, strict=True):
            if span.seconds > 0:
                rate[np.searchsorted(self._times, span.started)] += amount / span.seconds
                rate[np.searchsorted(self._times, span.ended)] -= amount / span.seconds
        level = np.cumsum(rate)[:-1]
        self._total = np.concatenate([[0.0], np.cumsum(level * np.diff(self._times))])

    def between(self, start: float, end: float) -> float:
        """The part of the amounts that falls between `start` and `end`."""
        if not len(self._times):
            return 0.0
        first, last = np.interp([start, end], self._times, self._total)
        return float(last - first)


def tool_work(problem: ProblemHistory, crowding: float) -> dict[tuple[int, float], float]:
    """Seconds of work of each tool call, had it run alone; by (trajectory, when it began)."""
    calls = [(t.index, call) for t in problem.trajectories.values() for call in t.calls]
    if not calls:
        return {}
    spans = [span for _, span in calls]
    times = np.unique([time for span in spans for time in (span.started, span.ended)])
    running = num_running(spans, times)
    done = np.concatenate(
        [[0.0], np.cumsum(np.diff(times) * np.maximum(running[:-1], 1) ** -crowding)]
    )
    return {
        (index, span.started): float(
            np.interp(span.ended, times, done) - np.interp(span.started, times, done)
        )
        for index, span in calls
    }
