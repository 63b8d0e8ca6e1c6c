"""Runs on scripts, written down as run folders: what replays read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from solver.config import SolverConfig
from solver.journal.events import SCHEMA_MINOR, Event, RunEnded, RunStarted, Solved
from solver.journal.recorded_run import RecordedRun, load
from solver.journal.writer import JournalWriter
from solver.ports import Scorer
from solver.solving.recording import recording_of
from solver.solving.session import run_session
from solver.types import Problem, Trajectory
from tests.support import run_virtual
from tests.support.rig import Rig, config


class Judge:
    """A learned scorer by the book: the score of a trajectory is written here."""

    def __init__(self, name: str, scores: Mapping[str, float]) -> None:
        self.name = name
        self.asked: list[int] = []
        self._scores = scores

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        self.asked.append(trajectories[0].num_sampled_tokens)
        return [self._scores[trajectory.id] for trajectory in trajectories]


def play(
    rig: Rig, problems: Sequence[Problem], recorded_scorers: tuple[Scorer, ...] = ()
) -> list[Solved]:
    """Solve the problems in virtual time; `rig.events` is the journal, but for its first line."""

    async def main() -> list[Solved]:
        recording = recording_of(rig.settings, recorded_scorers)
        services = replace(rig.services(), recording=recording)
        return await run_session(problems, services, solved={})

    return run_virtual(main())


def write(
    folder: Path, settings: SolverConfig, problems: Sequence[Problem], events: Sequence[Event]
) -> Path:
    """A run folder with these events; returns it."""
    folder.mkdir(parents=True)
    rows = [f"{p.id},{p.statement},{'' if p.answer is None else p.answer}\n" for p in problems]
    (folder / "problems.csv").write_text("id,problem,answer\n" + "".join(rows))
    start = RunStarted(
        created="2025-01-01T00:00:00+00:00",
        schema_minor=SCHEMA_MINOR,
        config=settings,
        problem_ids=[problem.id for problem in problems],
        problems_sha256="0" * 64,
    )
    writer = JournalWriter(folder / "journal.jsonl", _never)
    for event in (start, *events, RunEnded(t=events[-1].t if events else 0.0)):
        writer.record(event)
    writer.close()
    return folder


def recorded(
    folder: Path,
    rig: Rig,
    problems: Sequence[Problem],
    recorded_scorers: tuple[Scorer, ...] = (),
) -> RecordedRun:
    """Play, write, and read again."""
    play(rig, problems, recorded_scorers)
    return load(write(folder, rig.settings, problems, rig.events))


def full(**sections: Mapping[str, object]) -> SolverConfig:
    """The rig's config, recorded in full."""
    return SolverConfig.model_validate(config(**sections).model_dump() | {"record": "full"})


def _never(message: str) -> None:
    raise AssertionError(message)
