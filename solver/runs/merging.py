"""Several runs of one job as one run: their problems, journals and answers in a folder of its own.

Times of the merged journal are those of the runs side by side, each from its own start.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from solver.config import SolverConfig
from solver.errors import ConfigError, InputError
from solver.files.problems import load_problems, write_problems
from solver.files.shards import Shard
from solver.journal.events import SCHEMA_MINOR, Event, RunEnded, RunStarted
from solver.journal.history import on_one_clock
from solver.journal.reader import JournalReader
from solver.journal.summary import Summary, summarize
from solver.runs.folder import (
    RunFolder,
    ShardOf,
    check_output,
    comparable,
    new_run,
    read_history,
    read_run,
    read_shard,
)
from solver.runs.settings import differing_key
from solver.types import Problem


@dataclass(frozen=True, slots=True)
class _Part:
    """A finished run that goes into the merged one."""

    folder: Path
    config: SolverConfig
    problems: list[Problem]
    shard: ShardOf | None
    start: RunStarted

    def events(self) -> Iterator[Event]:
        """What it recorded about its problems."""
        reader = JournalReader(self.folder / "journal.jsonl")
        return on_one_clock(event for event, _ in reader.events())


def merge_runs(
    folders: Sequence[Path],
    target: Path | None,
    output: Path,
    *,
    force: bool,
    on_failure: Callable[[str], None],
) -> tuple[RunFolder, Summary]:
    """Write the runs in `folders` as one run into `target` (`runs/<id>` if None), its answers to `output`.

    Shards are put into the order of their problems again; other runs follow on each other. Raises
    `InputError` or `ConfigError`, before anything is written, for runs that are not finished, share a
    problem or differ in a setting, and for shards of other problems or of which one is missing.
    """
    parts = [_read(folder) for folder in folders]
    _check_settings(parts)
    _check_overlaps(parts)
    parts = _in_order(parts)
    check_output(output, None, replaceable=force)
    problems = _problems(parts)
    run = new_run(
        target,
        parts[0].config,
        problems,
        output,
        lambda folder: _copied(folder, problems),
        on_failure=on_failure,
    )
    try:
        _write_journal(run, parts)
        summary = summarize(run.history, problems)
        run.write_results(run.solved.values(), summary)
    finally:
        run.close()
    return run, summary


def _read(folder: Path) -> _Part:
    config, _, copy = read_run(folder)
    problems = load_problems(copy)
    history, _ = read_history(folder / "journal.jsonl")
    missing = [problem.id for problem in problems if problem.id not in history.problems]
    if history.start is None or missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(problems)} problems have no answer yet;"
            f" go on with --resume {folder}"
        )
    return _Part(folder, config, problems, read_shard(folder), history.start)


def _check_settings(parts: Sequence[_Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if key := differing_key(comparable(first.config), comparable(part.config)):
            raise ConfigError(f"{key} differs between {first.folder} and {part.folder}")


def _check_overlaps(parts: Sequence[_Part]) -> None:
    found: dict[str, Path] = {}
    for part in parts:
        for problem in part.problems:
            if problem.id in found:
                raise InputError(
                    f"the problem {problem.id[:40]!r} is in {found[problem.id]} and in {part.folder}"
                )
            found[problem.id] = part.folder


def _in_order(parts: Sequence[_Part]) -> list[_Part]:
    """Shards by their place, other runs as they were given."""
    shards = {part.shard.place: part for part in parts if part.shard is not None}
    if not shards:
        return list(parts)
    first = next(iter(shards.values()))
    assert first.shard is not None
    for part in parts:
        if part.shard is None:
            raise InputError(f"{part.folder} is no shard, and {first.folder} is one")
        if (part.shard.of, part.shard.problems_sha256) != (
            first.shard.of,
            first.shard.problems_sha256,
        ):
            raise InputError(f"{part.folder} and {first.folder} are shards of other problems")
    missing = [str(place) for place in range(1, first.shard.of + 1) if place not in shards]
    if missing:
        raise InputError(f"of {first.shard.of} shards these are missing: {', '.join(missing)}")
    return [shards[place] for place in sorted(shards)]


def _problems(parts: Sequence[_Part]) -> list[Problem]:
    """All problems, those of shards in the order that they had in the file."""
    if parts[0].shard is None:
        return [problem for part in parts for problem in part.problems]
    rows = zip_longest(*(part.problems for part in parts))
    problems = [problem for row in rows for problem in row if problem is not None]
    first = parts[0].shard
    if ShardOf.of_problems(Shard(first.place, first.of), problems) != first:
        raise InputError("the problems of the shards were changed after their runs began")
    return problems


def _copied(folder: Path, problems: Sequence[Problem]) -> Path:
    copy = folder / "problems.jsonl"
    write_problems(copy, problems)
    return copy


def _write_journal(run: RunFolder, parts: Sequence[_Part]) -> None:
    """All events by their times; `run.history` then holds the answers."""

    def record(event: Event) -> None:
        run.journal.record(event)
        problem = run.history.apply(event)
        if problem is not None and problem.solved is not None:
            problem.trajectories.clear()  # only its answer matters from here on

    record(
        parts[0].start.model_copy(
            update={
                "t": 0.0,
                "schema_minor": SCHEMA_MINOR,
                "problem_ids": [problem.id for problem in run.problems],
                "problems_sha256": run.problems_sha256,
                "isolation": "; ".join(dict.fromkeys(part.start.isolation for part in parts)),
            }
        )
    )
    for event in heapq.merge(*(part.events() for part in parts), key=lambda event: event.t):
        record(event)
    record(RunEnded(t=run.history.elapsed))
