"""Runs as tables, for those who work with pandas or polars; neither is needed by anything else."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from math import fsum
from pathlib import Path
from typing import Any, Literal

from solver.cli.python import python
from solver.config import SolverConfig
from solver.errors import ConfigError, InputError
from solver.journal.history import ProblemHistory, TrajectoryHistory
from solver.journal.recorded_run import ProblemReader
from solver.journal.summary import is_correct
from solver.types import Problem

LIBRARIES = ("pandas", "polars")

Columns = dict[str, list[Any]]


def frame(run: Path, kind: Literal["trajectories", "problems"], library: str | None = None) -> Any:
    """A DataFrame with a row a trajectory or a row a problem. Raises `InputError`, `ConfigError`."""
    if kind not in ("trajectories", "problems"):
        raise ConfigError(f"kind is trajectories or problems, not {kind!r}")
    module = _library(library)
    return module.DataFrame(columns(run, kind))


def columns(run: Path, kind: Literal["trajectories", "problems"]) -> Columns:
    """The columns by name, all of one length; texts, numbers, truths and None."""
    reader = ProblemReader(run)
    config = reader.start.config
    rows = _trajectory_rows if kind == "trajectories" else _problem_rows
    found = [row for record in reader for row in rows(record, config)]
    names = dict.fromkeys(name for row in found for name in row)
    return {name: [row.get(name) for row in found] for name in names}


def _library(wanted: str | None) -> Any:
    if wanted is not None and wanted not in LIBRARIES:
        raise ConfigError(f"library is pandas or polars, not {wanted!r}")
    for name in LIBRARIES if wanted is None else (wanted,):
        if find_spec(name) is not None:
            return import_module(name)
    raise InputError(
        f"a table needs {wanted or 'pandas or polars'}: {python()} -m"
        f" pip install {wanted or 'polars'}"
    )


def _trajectory_rows(record: ProblemHistory, config: SolverConfig) -> Iterator[dict[str, Any]]:
    for trajectory in record.trajectories.values():
        yield _trajectory_row(trajectory, record, config)


def _trajectory_row(
    record: TrajectoryHistory, of: ProblemHistory, config: SolverConfig
) -> dict[str, Any]:
    trajectory = record.trajectory
    row: dict[str, Any] = {
        "problem_id": of.problem.id,
        "index": record.index,
        "stop_reason": None if trajectory.stop_reason is None else trajectory.stop_reason.value,
        "answer": trajectory.answer,
        "right": _right(trajectory.answer, of.problem, config),
        "kept": record.index not in of.dropped,
        "score": of.last_scores.get(record.index),
        "sampled_tokens": trajectory.num_sampled_tokens,
        "prompt_tokens": len(trajectory.prompt_token_ids),
        "reused_tokens": trajectory.reused_tokens,
        "encoded_tokens": trajectory.encoded_tokens,
        "tool_calls": len(record.calls),
        "sampling_s": fsum(span.seconds for span in record.requests),
        "tool_s": fsum(span.seconds for span in record.calls),
        "started_s": record.requests[0].started if record.requests else None,
        "ended_s": record.ended,
        "forced": record.forced is not None,
        "error": trajectory.error,
        "confidence": trajectory.evidence.confidence,
        "entropy": trajectory.evidence.entropy,
        "verified": trajectory.evidence.verified,
    }
    for scored in of.scored:
        row[f"{scored.scorer}@{scored.mark}"] = scored.scores.get(record.index)
    return row


def _problem_rows(record: ProblemHistory, config: SolverConfig) -> Iterator[dict[str, Any]]:
    solved, problem = record.solved, record.problem
    yield {
        "problem_id": problem.id,
        "known_answer": problem.answer,
        "answer": None if solved is None else solved.answer,
        "right": None if solved is None else _right(solved.answer, problem, config),
        "num_votes": None if solved is None else solved.num_votes,
        "margin": None if solved is None else solved.margin,
        "tied": None if solved is None else solved.tied,
        "decided_early": None if solved is None else solved.decided_early,
        "trajectories": len(record.trajectories),
        "dropped": len(record.dropped),
        "sampled_tokens": None if solved is None else solved.sampled_tokens,
        "started_s": record.started,
        "allotted_s": record.allotted_s,
        "elapsed_s": None if solved is None else solved.elapsed_s,
        "degraded": None if solved is None else "; ".join(solved.degraded),
        **{f"tag_{name}": value for name, value in problem.tags.items()},
    }


def _right(answer: int | None, problem: Problem, config: SolverConfig) -> bool | None:
    """None where the answer is not known."""
    if problem.answer is None:
        return None
    return answer is not None and is_correct(answer, problem, config.answer.modulus)
