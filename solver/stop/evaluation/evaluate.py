"""Evaluation: full rollouts once, every way of pruning on the same rollouts, one report.

rollouts (sampled, or saved ones)  ->  scores at each mark  ->  rows and differences  ->  files
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from solver.cli.progress import WorkProgress
from solver.errors import ConfigError, InputError
from solver.files.whole import write_whole
from solver.scorers import Need, find_scorer
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.stop import STOP
from solver.stop.evaluation.compare import (
    ALL,
    Difference,
    Row,
    differences,
    dropped,
    kinds_of,
    methods_of,
    row,
)
from solver.stop.evaluation.majority import MajorityRow, majority_rows
from solver.stop.evaluation.pictures import draw_calibration, draw_roc, draw_tokens
from solver.stop.evaluation.report import csv_of, csv_of_votes, markdown
from solver.stop.evaluation.scoring import Marked
from solver.stop.evaluation.stages import StagesRow, stages_rows
from solver.stop.evaluation.voting import VoteRow, vote_rows
from solver.stop.rollouts.file import RolloutFile, SamplingHeader
from solver.stop.rollouts.rollout import ProblemRollouts
from solver.stop.rollouts.sample import Sampler, SamplingPlan
from solver.types import Check, Problem


@dataclass(frozen=True, slots=True)
class Comparison:
    """All numbers of an evaluation. `main` is the (launch, mark, keep) of the first table."""

    main: tuple[int, int, int]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    votes: tuple[VoteRow, ...]  # at the main launch, mark and keep
    majority: tuple[MajorityRow, ...]  # at the main launch and mark
    stages: tuple[StagesRow, ...]  # at the main launch
    marked: tuple[Marked, ...]  # at the main launch and mark


async def full_rollouts(
    problems: Sequence[Problem],
    num_blocks: int,
    plan: SamplingPlan,
    header: SamplingHeader,
    sampler: Sampler,
    path: Path,
    progress: WorkProgress,
) -> list[ProblemRollouts]:
    """`num_blocks` times `plan.launch` rollouts of each problem; what `path` holds is not sampled."""
    with closing(RolloutFile(path, header, problems)) as file:
        return await _go_on(file, problems, num_blocks, plan, sampler, progress)


async def _go_on(
    file: RolloutFile,
    problems: Sequence[Problem],
    num_blocks: int,
    plan: SamplingPlan,
    sampler: Sampler,
    progress: WorkProgress,
) -> list[ProblemRollouts]:
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
    plan = replace(plan, stored=file.stored_tokens)
    if missing:
        await sampler(missing, plan, on_done)
    return [units[problem.id, block] for problem, block in wanted]


def _reads_adapter(method: str) -> bool:
    return Need.ADAPTER in find_scorer(method).needs


def compare(
    settings: Mapping[tuple[int, int], Sequence[Marked]],
    main: tuple[int, int, int],
    keeps: Sequence[int],
    seed: int,
    plans: Sequence[tuple[Check, ...]] = (),
) -> Comparison:
    """Rows for every launch, mark, keep and method over all problems, and by kind at the main ones.

    `settings` are units by (launch, mark), `main` is (launch, mark, keep). The differences are those of every
    method that reads an adapter (without one, of confidence) at the main setting. Votes are compared among
    all rollouts and among those that STOP keeps (without it, confidence), which also makes the checks of
    `plans`; their marks are in `settings`.
    """
    at_main, keep = settings[main[:2]], main[2]
    methods = methods_of(at_main)
    rows = [
        row(marked, method, each, ALL, seed)
        for (launch, _), marked in settings.items()
        for each in keeps
        if each <= launch
        for method in methods
    ]
    found: list[Difference] = []
    scored = dict.fromkeys(name for unit in at_main for name in unit.scores)
    ours = list(filter(_reads_adapter, scored)) or [CONFIDENCE.name]
    for kind in kinds_of(at_main):
        if kind != ALL:
            rows += [row(at_main, method, keep, kind, seed) for method in methods]
        for method in ours:
            found += differences(at_main, method, keep, kind, seed)
    pruner = STOP.name if STOP.name in scored else CONFIDENCE.name
    drops = partial(dropped, method=pruner, keep=keep, seed=seed)
    votes = vote_rows(at_main, {pruner: drops} if pruner in scored else {}, seed)
    by_mark = {mark: marked for (launch, mark), marked in settings.items() if launch == main[0]}
    return Comparison(
        main,
        tuple(rows),
        tuple(found),
        tuple(votes),
        tuple(majority_rows(at_main, seed)),
        tuple(stages_rows(by_mark, plans, pruner, seed) if plans and pruner in scored else ()),
        tuple(at_main),
    )


def write_report(
    out: Path, comparison: Comparison, title: str, command: str, facts: Sequence[str]
) -> list[Path]:
    """Write README.md, the tables and the pictures into the folder `out`; returns what was written."""
    pictures = [out / name for name in ("tokens.png", "calibration.png", "roc.png")]
    try:
        out.mkdir(parents=True, exist_ok=True)
        draw_tokens(pictures[0], comparison.rows, comparison.main)
        draw_calibration(pictures[1], comparison.marked)
        draw_roc(pictures[2], comparison.marked)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    text = markdown(
        title,
        command,
        facts,
        comparison.rows,
        comparison.differences,
        comparison.votes,
        comparison.majority,
        comparison.stages,
        comparison.main,
        [picture.name for picture in pictures],
    )
    write_whole(out / "README.md", text)
    write_whole(out / "table.csv", csv_of(comparison.rows))
    write_whole(out / "votes.csv", csv_of_votes(comparison.votes))
    return [out / "README.md", out / "table.csv", out / "votes.csv", *pictures]


def check_settings(
    launch: int, launches: Sequence[int], keep: int, marks: Sequence[int], stored_tokens: int
) -> None:
    """Raise `ConfigError` for a launch, keep or mark that these rollouts cannot be judged at."""
    if not 1 <= keep <= min(launches):
        raise ConfigError(f"--keep must be from 1 to the launch of {min(launches)}, not {keep}")
    if max(launches) > launch:
        raise ConfigError(f"there are {launch} rollouts a problem, not {max(launches)}")
    if not marks or min(marks) < 1:
        raise ConfigError("--marks are numbers of tokens from 1 on, such as 16,32,48")
    if max(marks) > stored_tokens:
        raise ConfigError(
            f"the rollouts hold their first {stored_tokens} tokens: they cannot be cut at {max(marks)}"
        )


def check_plans(plans: Sequence[tuple[Check, ...]], launch: int, marks: Sequence[int]) -> None:
    """Raise `ConfigError` for stages that keep more than there are, or stand at a mark that is not scored."""
    shown = ",".join(map(str, marks))
    for check in (check for checks in plans for check in checks):
        if check.keep > launch:
            raise ConfigError(f"--stages keeps {check.keep} of {launch}")
        if check.mark not in marks:
            raise ConfigError(f"--stages has mark {check.mark}: add it to --marks {shown}")
