"""The settings of a submission, and those that a rehearsal overrides."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from solver.clock import process_start
from solver.config import SolverConfig
from solver.errors import ConfigError
from solver.runs.settings import load_config, parse_duration
from submissions.competitions import Competition, competition
from submissions.outcome import WorkerLimits
from submissions.paths import INPUT

REHEARSAL = "STOP_SOLVER_REHEARSAL"  # environment variable; only dry runs set it
WORKER = (sys.executable, "-m", "submissions.worker")


class Rehearsal(BaseModel):
    """Settings that a dry run passes to the submission; they override those of the notebook.

    `started_at` is monotonic; `limit_s` is already divided by `speed`, the other budgets are not.
    `row_log` is a copy of the log of rows, in a place that the dry run knows.
    """

    model_config = ConfigDict(frozen=True)

    input: Path
    started_at: float
    limit_s: float
    speed: float = 1.0
    num_problems: int
    port: int
    key: str
    row_log: Path | None = None
    faults: str = ""
    preset: str | None = None
    config: Path | None = None
    sets: tuple[str, ...] = ()
    worker: tuple[str, ...] = WORKER
    least_silence_s: float = WorkerLimits().least_silence_s

    @staticmethod
    def here() -> Rehearsal | None:
        """The rehearsal that this process is part of; None outside of one. Raises `ConfigError`."""
        text = os.environ.get(REHEARSAL)
        try:
            return Rehearsal.model_validate_json(text) if text else None
        except ValidationError as error:
            raise ConfigError(f"{REHEARSAL} is not a rehearsal: {error}") from None


@dataclass(frozen=True, slots=True)
class Submission:
    """The settings of `kaggle.serve`. `started_at` is monotonic; `row_limit_s` is divided by the speed."""

    competition: Competition
    config: SolverConfig
    started_at: float
    num_problems: int
    folder: Path
    row_limit_s: float = math.inf
    input: Path = INPUT
    row_log: Path | None = None
    worker: tuple[str, ...] = WORKER
    limits: WorkerLimits = field(default_factory=WorkerLimits)


def resolve_submission(
    name: str,
    *,
    preset: str | None,
    config: Path | None,
    sets: tuple[str, ...],
    time_limit: str,
    num_problems: int | None,
    folder: Path,
    started_at: float | None,
    plain: bool = False,
) -> Submission:
    """The notebook's settings, overridden by a rehearsal's if this is one. Raises `ConfigError`.

    `plain` ignores all settings of the solver but those that the competition asks for.
    """
    target = competition(name)
    rehearsal = Rehearsal.here()
    if rehearsal is not None:
        preset, config = rehearsal.preset or preset, rehearsal.config or config
        sets = (*sets, *rehearsal.sets)
    if plain:
        preset, config, sets = None, None, ()
    settings = load_config(preset, config, (*_answers(target), *sets))
    limit_s, speed = parse_duration(time_limit), 1.0
    start = process_start() if started_at is None else started_at
    if rehearsal is not None:
        limit_s, speed, start = rehearsal.limit_s, rehearsal.speed, rehearsal.started_at
    expected = rehearsal.num_problems if rehearsal else num_problems or target.num_problems
    silence = rehearsal.least_silence_s if rehearsal else WorkerLimits().least_silence_s
    return Submission(
        competition=target,
        config=_within(settings, limit_s, speed),
        started_at=start,
        num_problems=expected,
        folder=folder.absolute(),
        row_limit_s=target.row_limit_s / speed,
        input=rehearsal.input if rehearsal else INPUT,
        row_log=rehearsal.row_log if rehearsal else None,
        worker=rehearsal.worker if rehearsal else WORKER,
        limits=WorkerLimits(start_s=settings.vllm.start_limit_s, least_silence_s=silence),
    )


def _answers(target: Competition) -> tuple[str, ...]:
    modulus = () if target.modulus is None else (f"answer.modulus={target.modulus}",)
    return (f"answer.maximum={target.maximum}", *modulus)


def _within(config: SolverConfig, limit_s: float, speed: float) -> SolverConfig:
    """The config with this time limit, and every other budget divided by `speed`."""
    budget = config.budget
    limit = budget.problem_limit_s
    changed = {
        "time_limit_s": limit_s,
        "problem_limit_s": None if limit is None else limit / speed,
        "answer_reserve_s": budget.answer_reserve_s / speed,
        "closing_s": budget.closing_s / speed,
    }
    return config.model_copy(update={"budget": budget.model_copy(update=changed)})
