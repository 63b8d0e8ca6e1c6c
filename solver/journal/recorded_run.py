"""A run folder, read into histories with every id; a resumed run reads as one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from solver.config import SolverConfig
from solver.errors import InputError
from solver.files.problems import problems_of_run, require_run_folder
from solver.journal.events import RunEnded, RunStarted
from solver.journal.history import Incident, ProblemHistory, RunHistory
from solver.journal.reader import JournalReader


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run in memory. `problems` are in the order of the file, those never started are left out."""

    path: Path
    start: RunStarted
    problems: tuple[ProblemHistory, ...]
    incidents: tuple[Incident, ...]
    end: RunEnded | None
    torn_bytes: int
    skipped: int

    @property
    def config(self) -> SolverConfig:
        """What the run was configured with."""
        return self.start.config


def load(run: Path) -> RecordedRun:
    """Read the run folder `run`. Raises `InputError` or `JournalError`."""
    reader = ProblemReader(run)
    found = {problem.id: problem for problem in reader}
    return RecordedRun(
        path=run,
        start=reader.start,
        problems=tuple(found[p.id] for p in reader.problems if p.id in found),
        incidents=tuple(reader.history.incidents),
        end=reader.history.end,
        torn_bytes=reader.journal.torn_bytes,
        skipped=reader.journal.skipped,
    )


class ProblemReader:
    """Iterates once over the problems of a run as they were solved, unsolved ones last.

    Only the problems under way are in memory. `history` and `journal` say the rest when the iteration
    has ended.
    """

    def __init__(self, run: Path) -> None:
        """Read the beginning of the run in folder `run`. Raises `InputError` or `JournalError`."""
        require_run_folder(run)
        self.journal = JournalReader(run / "journal.jsonl")
        self._events = self.journal.events()
        first, _ = next(self._events, (None, None))
        if not isinstance(first, RunStarted):
            raise InputError(f"nothing is recorded in {run} yet")
        self.start = first
        self.problems = problems_of_run(run)
        self.history = RunHistory(self.problems, keep_ids=True)
        self.history.apply(first)

    def __iter__(self) -> Iterator[ProblemHistory]:
        for event, line in self._events:
            problem = self.history.apply(event, line)
            if problem is not None and problem.solved is not None:
                yield self._taken(problem)
        while self.history.problems:
            yield self._taken(next(iter(self.history.problems.values())))

    def _taken(self, problem: ProblemHistory) -> ProblemHistory:
        del self.history.problems[problem.id]
        problem.trajectories = dict(sorted(problem.trajectories.items()))
        return problem
