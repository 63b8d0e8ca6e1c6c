"""Fits the speeds of the recorded machine to the journal's times.

By `Speeds`, a request of n tokens takes

    step_s * n + token_s * W + encoded_s * E + tool_s * X      seconds, where while it ran

all requests together sampled W tokens and encoded E ids, and tools did X seconds of work. That is linear:
it is solved by least squares with coefficients that are not negative.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from math import log
from statistics import median

import numpy as np

from solver.journal.history import ProblemHistory, TrajectoryHistory
from solver.journal.recorded_run import RecordedRun
from solver.replay.flows import Flow, num_running, tool_work
from solver.replay.speeds import Speeds
from solver.types import StopReason


def fit_speeds(recordings: Sequence[RecordedRun]) -> Speeds:
    """Fit all speeds to full recordings of one machine; a speed that they do not show is 0."""
    problems = [p for recording in recordings for p in recording.problems if p.trajectories]
    crowding = _crowding(problems)
    rows = [row for problem in problems for row in _request_rows(problem, crowding)]
    step_s, token_s, encoded_s, tool_s = _non_negative(rows) if rows else (0.0, 0.0, 0.0, 0.0)
    return Speeds(
        step_s,
        token_s,
        encoded_s,
        min(tool_s, 0.95),
        crowding,
        check_s=_check_seconds(problems),
        load_s=median([r.start.t for r in recordings]),
        before_s=_median(_before(problem) for problem in problems),
        after_s=_median(after for problem in problems if (after := _after(problem)) is not None),
        write_s=_median(seconds for recording in recordings for seconds in _writing(recording)),
    )


def _crowding(problems: Iterable[ProblemHistory]) -> float:
    """The slope of log seconds over log calls at once, among first calls and among later ones."""
    groups: dict[bool, list[tuple[float, float]]] = defaultdict(list)
    for problem in problems:
        spans = [s for t in problem.trajectories.values() for s in t.calls if s.seconds > 0]
        if not spans:
            continue
        times = np.unique([time for span in spans for time in (span.started, span.ended)])
        area = np.concatenate([[0.0], np.cumsum(np.diff(times) * num_running(spans, times)[:-1])])
        for trajectory in problem.trajectories.values():
            for number, span in enumerate(s for s in trajectory.calls if s.seconds > 0):
                shared = np.interp(span.ended, times, area) - np.interp(span.started, times, area)
                company = max(1.0, float(shared) / span.seconds)
                groups[number == 0].append((log(company), log(span.seconds)))
    above = below = 0.0
    for pairs in groups.values():
        table = np.array(pairs)
        centred = table - table.mean(axis=0)
        above += float(centred[:, 0] @ centred[:, 1])
        below += float(centred[:, 0] @ centred[:, 0])
    return min(1.0, max(0.0, above / below)) if below > 0 else 0.0


def _request_rows(problem: ProblemHistory, crowding: float) -> Iterator[tuple[float, ...]]:
    """(n, W, E, X, seconds) of each request of a problem; see the module's equation."""
    requests = [
        s
        for t in problem.trajectories.values()
        for s in t.requests
        if s.num_tokens and s.seconds > 0
    ]
    if not requests:
        return
    tools = [(t.index, call) for t in problem.trajectories.values() for call in t.calls]
    work = tool_work(problem, crowding)
    works = [work[index, call.started] for index, call in tools]
    sampled = Flow(requests, [s.num_tokens for s in requests])
    tooled = Flow([call for _, call in tools], works)
    starts = np.sort([s.started for s in requests])
    encoded = np.concatenate(
        [[0.0], np.cumsum([s.encoded_tokens for s in sorted(requests, key=lambda s: s.started)])]
    )
    for span in requests:
        yield (
            span.num_tokens,
            sampled.between(span.started, span.ended),
            # requests that began while it ran, itself included, encoded their ids then
            float(
                encoded[np.searchsorted(starts, span.ended)]
                - encoded[np.searchsorted(starts, span.started)]
            ),
            tooled.between(span.started, span.ended),
            span.seconds,
        )


def _non_negative(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Least squares of the last column on the others, none of whose coefficients is negative.

    The best of the solutions on every subset of columns that has no negative part.
    """
    table = np.array(rows, np.float64)
    inputs, seconds = table[:, :-1], table[:, -1]
    num = inputs.shape[1]
    best, least = np.zeros(num), float(seconds @ seconds)
    for size in range(1, num + 1):
        for chosen in map(list, combinations(range(num), size)):
            found = np.linalg.lstsq(inputs[:, chosen], seconds, rcond=None)[0]
            error = float(((inputs[:, chosen] @ found - seconds) ** 2).sum())
            if (found >= 0).all() and error < least:
                best, least = np.zeros(num), error
                best[chosen] = found
    return tuple(map(float, best))


def _check_seconds(problems: Iterable[ProblemHistory]) -> dict[str, float]:
    """Median seconds a prefix of every scorer, from checks and from what was recorded there."""
    found: dict[str, list[float]] = defaultdict(list)
    for problem in problems:
        for checked in problem.checks:
            if checked.scores:
                found[checked.method].append((checked.t - checked.started) / len(checked.scores))
        for scored in problem.scored:
            if scored.scores and problem.checks and not _is_later(scored.started, problem):
                found[scored.scorer].append((scored.t - scored.started) / len(scored.scores))
    return {name: median(seconds) for name, seconds in found.items()}


def _is_later(time: float, problem: ProblemHistory) -> bool:
    """Whether somebody who had stood at a mark had ended for good by then."""
    return any(
        t.pauses and t.stop_reason is not StopReason.MARK and (t.ended or 0.0) <= time
        for t in problem.trajectories.values()
    )


def _before(problem: ProblemHistory) -> float:
    starts = [s.started for t in problem.trajectories.values() for s in t.requests[:1]]
    return min(starts) - problem.started if starts else 0.0


def _after(problem: ProblemHistory) -> float | None:
    """Seconds from the last end to the answer, without the scoring that only a recording does."""
    if problem.solved is None:
        return None
    last = _last_end(problem.trajectories.values())
    scoring = sum(s.t - s.started for s in problem.scored if s.started >= last)
    return max(0.0, problem.solved.t - last - scoring)


def _writing(recording: RecordedRun) -> Iterator[float]:
    """Seconds from each answer to the next problem, where one is solved after the other."""
    if recording.config.budget.problems_at_once > 1:
        return
    solved = [p for p in recording.problems if p.solved is not None]
    ordered = sorted(solved, key=lambda problem: problem.started)
    for problem, following in pairwise(ordered):
        if problem.solved is not None:
            yield max(0.0, following.started - problem.solved.t)


def _last_end(trajectories: Iterable[TrajectoryHistory]) -> float:
    return max((t.ended or 0.0 for t in trajectories), default=0.0)


def _median(values: Iterable[float]) -> float:
    known = list(values)
    return median(known) if known else 0.0
