"""A sweep of runs as points of the retention law, and the law through them.

Run folders that differ in mark, in launch and keep, and in the length of their trajectories (another
model, other problems) show which share of trajectories was best to keep.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from solver.errors import ConfigError, InputError, JournalError, first_fault
from solver.journal.history import RunHistory
from solver.journal.reader import JournalReader
from solver.journal.summary import Summary
from solver.policy.retention import UNIT, Law, Point, Retention, fit

_TOKENS = re.compile(r"(\d+(?:\.\d+)?)\s*([km]?)", re.IGNORECASE | re.ASCII)
_SCALE = {"": 1, "k": UNIT, "m": UNIT * UNIT}


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep: tokens a problem, its mark, the mean length of what it finished, result."""

    group: str  # runs are compared within a group: same problems, same model
    budget_tokens: float
    prefix: int
    length: float
    gamma: float
    accuracy: float


def plan_lines(plan: Retention) -> Iterable[str]:
    """The plan as the command prints it."""
    yield f"1/gamma {plan.inverse_gamma:.2f}"
    yield f"launch {plan.launch}, keep {plan.keep}"
    for words in plan.words:
        yield f"warning: {words}"


def parse_tokens(text: str) -> float:
    """Tokens in `8650`, `158k` (x 1,024, the unit of the law) or `1.5m` (x 1,024 x 1,024)."""
    match = _TOKENS.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a number of tokens; write 8650, 158k or 1.5m")
    return float(match[1]) * _SCALE[match[2].lower()]


def fit_runs(folders: Sequence[Path]) -> Law:
    """The law through the best runs of a sweep. Raises `InputError` that says why it cannot."""
    points = best_points([read_run(folder) for folder in folders])
    try:
        return fit(points)
    except ValueError as error:
        raise InputError(
            f"{len(folders)} runs give {len(points)} settings; no law can be fitted: {error}"
        ) from None


def best_points(runs: Iterable[SweepRun]) -> list[Point]:
    """For each group, mark and budget the gamma of the most accurate run; ties keep fewer.

    Budgets count as the same if they round to the same half octave.
    """
    best: dict[tuple[str, int, int], SweepRun] = {}
    for run in runs:
        key = (run.group, run.prefix, round(2 * math.log2(run.budget_tokens)))
        rival = best.get(key)
        if rival is None or (-run.accuracy, run.gamma) < (-rival.accuracy, rival.gamma):
            best[key] = run
    return [Point(run.budget_tokens, run.prefix, run.length, run.gamma) for run in best.values()]


def read_run(folder: Path) -> SweepRun:
    """The numbers of a finished run that the law uses. Raises `InputError`."""
    try:
        summary = Summary.model_validate_json((folder / "summary.json").read_bytes())
        history = RunHistory()
        history.read(JournalReader(folder / "journal.jsonl"))
    except ValidationError as error:
        raise InputError(f"{folder / 'summary.json'} is damaged: {first_fault(error)}") from None
    except (OSError, ValueError, JournalError) as error:
        raise InputError(f"{folder} is not the folder of a finished run: {error}") from None
    lengths = [
        one.num_tokens
        for problem in history.problems.values()
        for one in problem.trajectories.values()
        if one.ended_by_itself
    ]
    start = history.start
    if start is None or summary.accuracy is None or not lengths or not summary.num_problems:
        raise InputError(f"{folder}: a sweep needs answered problems whose answers are known")
    return SweepRun(
        group=f"{start.problems_sha256} {summary.model}",
        budget_tokens=summary.sampled_tokens / summary.num_problems,
        prefix=summary.mark,
        length=sum(lengths) / len(lengths),
        gamma=summary.keep / summary.launch,
        accuracy=summary.accuracy,
    )
