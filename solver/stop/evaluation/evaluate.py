"""Evaluation: full rollouts once, every way of pruning on the same rollouts, one report.

rollouts (sampled, or saved ones)  ->  scores at each mark  ->  rows and differences  ->  files
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from solver.cli.progress import WorkProgress
from solver.config import SolverConfig
from solver.errors import ConfigError, InputError, PartMissing
from solver.files.whole import write_whole
from solver.ports import Scorer
from solver.scorers import Need, ScorerContext, find_scorer, scorer_names
from solver.scorers.confidence import CONFIDENCE
from solver.solving.services import Services
from solver.stop.evaluation.compare import (
    ALL,
    Difference,
    Row,
    differences,
    kinds_of,
    methods_of,
    row,
)
from solver.stop.evaluation.pictures import draw_calibration, draw_roc, draw_tokens
from solver.stop.evaluation.report import csv_of, markdown
from solver.stop.evaluation.scoring import Marked, score_at
from solver.stop.rollouts.file import RolloutFile, SamplingHeader
from solver.stop.rollouts.rollout import ProblemRollouts
from solver.stop.rollouts.sample import SamplingPlan, sample_all
from solver.types import Problem


@dataclass(frozen=True, slots=True)
class Comparison:
    """All numbers of an evaluation. `main` is the (mark, keep) of the first table."""

    main: tuple[int, int]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    marked: tuple[Marked, ...]  # at the main mark


async def full_rollouts(
    problems: Sequence[Problem],
    num_blocks: int,
    plan: SamplingPlan,
    header: SamplingHeader,
    services: Services,
    path: Path,
    progress: WorkProgress,
) -> list[ProblemRollouts]:
    """`num_blocks` times `plan.launch` rollouts of each problem; what `path` holds is not sampled."""
    file = RolloutFile(path, header)
    units = {(unit.problem_id, unit.block): unit for unit in file.done}
    wanted = [(problem, block) for block in range(num_blocks) for problem in problems]

    def on_done(unit: ProblemRollouts) -> None:
        file.append(unit)
        units[unit.problem_id, unit.block] = unit
        show()

    def show() -> None:
        done = sum((problem.id, block) in units for problem, block in wanted)
        progress.report("rollouts", done, len(wanted))

    missing = [(p, block) for p, block in wanted if (p.id, block) not in units]
    show()
    plan = replace(plan, mark=file.stored_tokens)
    await sample_all(missing, plan, services, on_done)
    return [units[problem.id, block] for problem, block in wanted]


async def all_scorers(context: ScorerContext) -> dict[str, Scorer]:
    """Every scorer by its name, but for those whose adapter, combiner or reward model is missing."""
    scorers = {}
    for name in scorer_names():
        try:
            scorer = await find_scorer(name).opened(context)
        except PartMissing:
            continue
        if scorer is not None:
            scorers[name] = scorer
    return scorers


async def score_marks(
    units: Sequence[ProblemRollouts],
    marks: Sequence[int],
    config: SolverConfig,
    services: Services,
    model_folder: Path,
    progress: WorkProgress,
) -> dict[int, list[Marked]]:
    """Every unit at every mark by every scorer.

    An adapter is used at every mark, also at those it was not trained for.
    """
    by_mark = {}
    engine, dialect = services.engine, services.dialect
    done, total = count(1), len(marks) * len(units)
    progress.report("scores", 0, total)
    for mark in marks:

        def advance(mark: int = mark) -> None:
            progress.report("scores", next(done), total, f"mark {mark}")

        async with AsyncExitStack() as closing:
            context = ScorerContext(
                config, engine, dialect, model_folder, mark, closing, any_mark=True
            )
            scorers = await all_scorers(context)
            # An adapter reads the engine's cache: prefixes are cached before the time is taken.
            cached = engine if any(map(_reads_adapter, scorers)) else None
            by_mark[mark] = await score_at(units, mark, scorers, cached, services.clock, advance)
    return by_mark


def _reads_adapter(method: str) -> bool:
    return Need.ADAPTER in find_scorer(method).needs


def compare(
    by_mark: Mapping[int, Sequence[Marked]], main: tuple[int, int], keeps: Sequence[int], seed: int
) -> Comparison:
    """Rows for every mark, keep and method over all problems, and by kind at the main ones.

    The differences are those of every method that reads an adapter (without one, of confidence) at
    the main mark and keep.
    """
    at_main = by_mark[main[0]]
    methods = methods_of(at_main)
    rows = [
        row(marked, method, keep, ALL, seed)
        for marked in by_mark.values()
        for keep in keeps
        for method in methods
    ]
    found: list[Difference] = []
    scored = dict.fromkeys(name for unit in at_main for name in unit.scores)
    ours = list(filter(_reads_adapter, scored)) or [CONFIDENCE.name]
    for kind in kinds_of(at_main):
        if kind != ALL:
            rows += [row(at_main, method, main[1], kind, seed) for method in methods]
        for method in ours:
            found += differences(at_main, method, main[1], kind, seed)
    return Comparison(main, tuple(rows), tuple(found), tuple(at_main))


def write_report(
    out: Path, comparison: Comparison, title: str, command: str, facts: Sequence[str]
) -> list[Path]:
    """Write README.md, table.csv and the pictures into the folder `out`; returns what was written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    pictures = [out / name for name in ("tokens.png", "calibration.png", "roc.png")]
    draw_tokens(pictures[0], comparison.rows, comparison.main[0])
    draw_calibration(pictures[1], comparison.marked)
    draw_roc(pictures[2], comparison.marked)
    text = markdown(
        title,
        command,
        facts,
        comparison.rows,
        comparison.differences,
        comparison.main,
        [picture.name for picture in pictures],
    )
    write_whole(out / "README.md", text)
    write_whole(out / "table.csv", csv_of(comparison.rows))
    return [out / "README.md", out / "table.csv", *pictures]


def check_settings(launch: int, keep: int, marks: Sequence[int], stored_tokens: int) -> None:
    """Raise `ConfigError` for a keep or a mark that these rollouts cannot be judged at."""
    if not 1 <= keep <= launch:
        raise ConfigError(f"--keep must be from 1 to the launch of {launch}, not {keep}")
    if not marks or min(marks) < 1:
        raise ConfigError("--marks are numbers of tokens from 1 on, such as 16,32,48")
    if max(marks) > stored_tokens:
        raise ConfigError(
            f"the rollouts hold their first {stored_tokens} tokens: they cannot be cut at {max(marks)}"
        )
