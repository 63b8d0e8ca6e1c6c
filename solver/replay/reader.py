"""A run folder, read into records; a resumed run reads as one run.

The clock of a resumed run goes on where the one before it was last heard of.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from solver.errors import InputError
from solver.files.problems import load_problems, problem_copies
from solver.journal.events import (
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
)
from solver.journal.history import grow
from solver.journal.reader import JournalReader
from solver.policy.seeds import trajectory_seed
from solver.replay.record import ProblemRecord, Recording, Span, TrajectoryRecord
from solver.types import BEGINS_AGAIN, Problem, Trajectory

_OfProblem = Sampled | Executed | Forced | Ended | Checked | Scored | Solved


def load(run: Path) -> Recording:
    """Read the run folder `run`. Raises `InputError` or `JournalError`."""
    reader = RecordReader(run)
    records = {record.problem.id: record for record in reader}
    return Recording(
        path=run,
        start=reader.start,
        problems=tuple(records[p.id] for p in reader.problems if p.id in records),
        incidents=tuple(reader.incidents),
        end=reader.end,
        torn_bytes=reader.torn_bytes,
        skipped=reader.skipped,
    )


class RecordReader:
    """Iterates over the problems of a run folder as they were solved, unsolved ones last.

    Only the problems under way are in memory. `incidents`, `end`, `torn_bytes` and `skipped` are
    complete when an iteration has ended.
    """

    def __init__(self, run: Path) -> None:
        """Read the beginning of the run in folder `run`. Raises `InputError` or `JournalError`."""
        self.run = run
        self._journal = JournalReader(run / "journal.jsonl")
        if not (run / "journal.jsonl").is_file():
            raise InputError(f"{run} is not a run folder; a run prints its folder at its end")
        first = next(iter(self._journal), None)
        if not isinstance(first, RunStarted):
            raise InputError(f"nothing is recorded in {run} yet")
        self.start = first
        copies = problem_copies(run)
        if not copies:
            raise InputError(
                f"{run} lacks its copy of the problems (problems.csv or problems.jsonl)"
            )
        self.problems = load_problems(copies[0])
        self.incidents: list[EngineIncident] = []
        self.end: RunEnded | None = None

    @property
    def torn_bytes(self) -> int:
        """Bytes after the last newline of the journal, which are left out."""
        return self._journal.torn_bytes

    @property
    def skipped(self) -> int:
        """Events that only a newer version knows."""
        return self._journal.skipped

    def __iter__(self) -> Iterator[ProblemRecord]:
        """Each problem once; one that was begun anew after an interruption, as it went then."""
        self.incidents, self.end = [], None
        problems = {problem.id: problem for problem in self.problems}
        open_records: dict[str, ProblemRecord] = {}
        before = latest = 0.0
        for event in self._journal:
            if isinstance(event, RunResumed):
                before = latest
            shifted = _later(event, before)
            latest = shifted.t
            if isinstance(shifted, ProblemStarted):
                problem = problems.get(shifted.problem_id) or Problem(shifted.problem_id, "")
                earlier = open_records.get(problem.id)
                open_records[problem.id] = ProblemRecord(
                    problem,
                    shifted.t,
                    shifted.allotted_s,
                    tuple(shifted.prompt_token_ids),
                    earlier=_ended(earlier) if earlier is not None else {},
                )
            elif isinstance(shifted, EngineIncident):
                self.incidents.append(shifted)
            elif isinstance(shifted, RunEnded):
                self.end = shifted
            elif not isinstance(shifted, RunStarted | RunResumed):
                record = open_records.get(shifted.problem_id) or _unstarted(problems, shifted)
                _take(shifted, record, self.start.config.seed)
                if isinstance(shifted, Solved):
                    open_records.pop(shifted.problem_id, None)
                    yield _in_order(record)
        yield from map(_in_order, open_records.values())


def _in_order(record: ProblemRecord) -> ProblemRecord:
    record.trajectories = dict(sorted((record.earlier | record.trajectories).items()))
    return record


def _ended(record: ProblemRecord) -> dict[int, TrajectoryRecord]:
    known = record.earlier | record.trajectories
    return {i: t for i, t in known.items() if t.trajectory.stop_reason not in BEGINS_AGAIN}


def _later(event: Event, seconds: float) -> Event:
    if not seconds:
        return event
    moved = {"t": event.t + seconds}
    if isinstance(event, Sampled | Executed | Checked | Scored):
        moved["started"] = event.started + seconds
    return event.model_copy(update=moved)


def _take(event: _OfProblem, record: ProblemRecord, run_seed: int) -> None:
    if isinstance(event, Checked):
        record.checked = event
    elif isinstance(event, Scored):
        record.scored.append(event)
    elif isinstance(event, Solved):
        record.solved = event
    else:
        _extend(_trajectory(record, event.index, run_seed), event)


def _trajectory(record: ProblemRecord, index: int, run_seed: int) -> TrajectoryRecord:
    if index not in record.trajectories:
        seed = trajectory_seed(run_seed, record.problem.id, index)
        trajectory = Trajectory(record.problem.id, index, seed, record.prompt_token_ids)
        record.trajectories[index] = TrajectoryRecord(trajectory)
    return record.trajectories[index]


def _extend(record: TrajectoryRecord, event: Sampled | Executed | Forced | Ended) -> None:
    """Let the trajectory grow as it did in the run, and keep when."""
    place = len(record.trajectory.turns) - 1
    if isinstance(event, Sampled):
        num, encoded = len(event.token_ids), event.encoded_tokens
        record.spans.append(Span(event.started, event.t, place, num, encoded))
    elif isinstance(event, Executed):
        num = len(event.appended_token_ids)
        record.spans.append(Span(event.started, event.t, place, num, tool=True))
    elif isinstance(event, Forced):
        record.forced = event.t
    else:
        record.ends.append(event)
    grow(record.trajectory, event)


def _unstarted(problems: dict[str, Problem], event: _OfProblem) -> ProblemRecord:
    """The record of a problem that got its answer without being started: there was no time left."""
    problem = problems.get(event.problem_id) or Problem(event.problem_id, "")
    return ProblemRecord(problem, event.t, 0.0, ())
