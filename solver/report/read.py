"""A journal, read line by line into a `RunRecord`; a growing one is read on from where it ended.

Nothing in a journal stops the reading: a line that holds no event is counted and passed over. Only
what the lanes need is kept, so that ten thousand problems fit into little memory; texts are read
later, problem by problem (`lines_of`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from solver.errors import InputError
from solver.journal.events import (
    SCHEMA_VERSION,
    Checked,
    Ended,
    EngineIncident,
    Event,
    Executed,
    Forced,
    ProblemStarted,
    RunEnded,
    RunResumed,
    RunStarted,
    Sampled,
    Scored,
    Solved,
    event_of,
)
from solver.journal.reader import without_unknown_settings
from solver.report.views import Call, Incident, Lane, ProblemRecord, RunRecord
from solver.types import BEGINS_AGAIN, StopReason

_Lived = Sampled | Executed | Forced | Ended


@dataclass(frozen=True, slots=True)
class _Place:
    line: int
    begin: int
    end: int


class JournalReader:
    """Reads a journal into `record`; call `update` again when the file has grown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._line = 0
        self._base = 0.0  # seconds of earlier processes
        self.record = RunRecord()

    def update(self) -> bool:
        """Read the whole lines that are new; whether there were any. `InputError` if unreadable."""
        before = self._position
        try:
            with self._path.open("rb") as file:
                file.seek(before)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # still being written, or torn by a crash
                    self._line += 1
                    place = _Place(self._line, self._position, self._position + len(line))
                    self._position = place.end
                    self._take(line, place)
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror}") from None
        return self._position > before

    def _take(self, line: bytes, place: _Place) -> None:
        event = event_of(line)
        if event is None and place.line == 1:  # a newer version may have written it
            with contextlib.suppress(ValueError, RecursionError):
                event = event_of(without_unknown_settings(line))
        record = self.record
        if event is None:
            record.unreadable += 1
            record.first_unreadable = record.first_unreadable or place.line
            return
        if isinstance(event, RunResumed):
            self._base = record.elapsed
            record.resumed += 1
        t = self._base + event.t
        record.elapsed = max(record.elapsed, t)
        record.ended = isinstance(event, RunEnded)
        if isinstance(event, RunStarted):
            self._begin(event)
        elif isinstance(event, RunEnded):
            record.interrupted = event.interrupted
        elif isinstance(event, EngineIncident):
            record.incidents.append(Incident(t, event.what, place.line))
        elif not isinstance(event, RunResumed):
            self._take_problem(event, t, place)

    def _begin(self, event: RunStarted) -> None:
        if event.schema_version != SCHEMA_VERSION:
            raise InputError(
                f"{self._path} has schema {event.schema_version}; this version reads {SCHEMA_VERSION}"
            )
        self.record.start = event

    def _take_problem(
        self, event: ProblemStarted | _Lived | Checked | Scored | Solved, t: float, place: _Place
    ) -> None:
        problem = self.record.problems.get(event.problem_id)
        if problem is None:
            problem = ProblemRecord(event.problem_id, place.begin, place.line, began=t)
            self.record.problems[event.problem_id] = problem
        problem.end = place.end
        if isinstance(event, ProblemStarted):
            problem.began, problem.allotted_s, problem.checked = t, event.allotted_s, None
            problem.scored = {}
            problem.lanes = {
                index: lane
                for index, lane in problem.lanes.items()
                if lane.stop_reason not in BEGINS_AGAIN
            }
        elif isinstance(event, Checked):
            problem.checked = event
        elif isinstance(event, Solved):
            problem.solved, problem.solved_at = event, t
        elif isinstance(event, Scored):
            start = self.record.start
            if start is not None and event.mark == start.config.prune.mark:
                problem.scored[event.scorer] = event.scores
        else:
            lane = problem.lanes.get(event.index)
            if lane is None:
                began = self._base + getattr(event, "started", event.t)
                lane = problem.lanes[event.index] = Lane(event.index, place.line, began)
            _take_lane(lane, event, t, self._base)


def _take_lane(lane: Lane, event: _Lived, t: float, base: float) -> None:
    lane.ended = t
    if isinstance(event, Sampled):
        if lane.marked is not None and lane.resumed is None:
            lane.resumed = base + event.started
        lane.tokens += len(event.token_ids)
    elif isinstance(event, Executed):
        call = Call(lane.tokens, base + event.started, t, event.result.status.value)
        lane.calls.append(call)
    elif isinstance(event, Forced):
        lane.forced = lane.tokens
    else:
        lane.stop_reason, lane.answer, lane.error = event.stop_reason, event.answer, event.error
        if event.stop_reason is StopReason.MARK:
            lane.marked = t


def lines_of(path: Path, problem: ProblemRecord) -> Iterator[tuple[int, Event]]:
    """The events between a problem's first and last line, others' included, with line numbers."""
    with path.open("rb") as file:
        file.seek(problem.begin)
        number, position = problem.line, problem.begin
        while position < problem.end:
            line = file.readline()
            if not line:
                return
            position += len(line)
            event = event_of(line)
            if event is not None:
                yield number, event
            number += 1
