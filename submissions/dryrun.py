"""`python -m submissions.dryrun problems.csv --limit 5h --runs 2`: rehearse a submission in real time.

Each run starts the submission in a new process tree, sends the problems as Kaggle's gateway does, ends
everything at the limit, checks the file and shows where the time went. Exit code 1 if a row is missing
or a file is invalid, 2 for mistakes of the user.
"""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from solver.cli.app import run_app
from solver.cli.consoles import wide_console
from solver.cli.extras import require
from solver.cli.progress import WorkProgress
from solver.config import AnswerConfig
from solver.errors import ConfigError, InputError
from solver.files.problems import load_problems
from solver.runs.settings import load_config, parse_duration
from solver.types import Problem
from submissions.checking import answers_in, file_faults, private_score
from submissions.competitions import Competition
from submissions.competitions import competition as named
from submissions.faults import parse_faults
from submissions.frames import frame_library
from submissions.rehearsal import LOG, Plan, Rehearsed, rehearse
from submissions.timeline import show, timeline_of

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    said = "interrupted; nothing of the submission is left running"
    return run_app(app, argv, prog=prog, interrupted=said)


@app.command()
def dryrun(
    problems: Annotated[Path, typer.Argument(help="CSV or JSONL as for the solver")],
    limit: Annotated[str, typer.Option(help="of each run, start-up included")] = "5h",
    runs: Annotated[int, typer.Option(min=1, help="the private board takes two")] = 2,
    order: Annotated[Literal["shuffled", "fixed"], typer.Option(help="of the rows")] = "shuffled",
    speed: Annotated[float, typer.Option(min=1, help="divides the limit and all budgets")] = 1.0,
    inject: Annotated[str, typer.Option(help="faults: crash@3,hang@5,slow-start,raise@7")] = "",
    notebook: Annotated[
        Path | None, typer.Option(help="a built submission.ipynb  [the module]")
    ] = None,
    gateway: Annotated[
        Path | None, typer.Option(help="folder that holds Kaggle's own kaggle_evaluation")
    ] = None,
    competition: Annotated[str, typer.Option(help="aimo3 or aimo2")] = "aimo3",
    with_answers: Annotated[
        bool, typer.Option("--with-answers", help="pass a third argument, as Kaggle may")
    ] = False,
    preset: Annotated[str | None, typer.Option(help="preset of the solver")] = None,
    config: Annotated[Path | None, typer.Option(help="settings, .toml or .json")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="any setting: section.key=value")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder  [runs/dryrun-<id>]")] = None,
) -> int:
    """Rehearse a submission: time, order, faults, the file, the score of two runs."""
    target = named(competition)
    if target.server is None:
        raise ConfigError(f"{competition} has no gateway: rehearse aimo3 or aimo2")
    if not math.isfinite(speed):
        raise ConfigError(f"--speed {speed}: give a number from 1 on")
    if with_answers and gateway is not None:
        raise ConfigError("--with-answers is of the stand-in: Kaggle's gateway decides itself")
    loaded = load_problems(problems)
    parse_faults(inject)
    load_config(preset, config, sets or ())
    frame_library()
    plan = Plan(
        problems=problems,
        competition=target,
        limit_s=_limit(limit) / speed,
        out=out or new_folder("dryrun"),
        speed=speed,
        shuffled=order == "shuffled",
        with_answers=with_answers,
        command=_command(notebook, competition),
        package=gateway_package(gateway),
        faults=inject,
        preset=preset,
        config=config,
        sets=tuple(sets or ()),
    )
    console = wide_console(markup=False, soft_wrap=True)
    rehearsed = []
    for number in range(1, runs + 1):
        console.print(f"run {number} of {runs}: at most {plan.limit_s:.0f} s, {order} order")
        with WorkProgress(quiet=False) as progress:
            run = rehearse(plan, number, progress)
        rehearsed.append(run)
        if not _report(run, loaded, target, console):
            console.print(f"log: {run.folder / LOG}")
    return _conclude(rehearsed, loaded, target, plan.out, console)


def _report(
    run: Rehearsed, problems: Sequence[Problem], target: Competition, console: Console
) -> bool:
    timeline = timeline_of(run.log)
    show(timeline, {problem.id: problem for problem in problems}, target.modulus, console)
    faults = run_faults(run, problems, target)
    for fault in faults:
        console.print(f"FAULT: {fault}")
    if not faults:
        console.print(f"the file is valid, after {run.took_s:.1f} s: {run.submission}")
    return not faults


def run_faults(run: Rehearsed, problems: Sequence[Problem], target: Competition) -> list[str]:
    """The faults of a run; empty if its file would be scored."""
    faults = [run.failure] if run.failure else []
    answers = AnswerConfig(maximum=target.maximum, modulus=target.modulus)
    faults += file_faults(run.submission, [problem.id for problem in problems], answers)
    faults += [
        f"row {row.number} gives no reason for {row.how}"
        for row in timeline_of(run.log).unexplained
    ]
    return faults + [f"still running: {process}" for process in run.still_running]


def _conclude(
    runs: Sequence[Rehearsed],
    problems: Sequence[Problem],
    target: Competition,
    out: Path,
    console: Console,
) -> int:
    valid = [not run_faults(run, problems, target) for run in runs]
    # A run without a valid file has no right answer.
    answers = [
        answers_in(run.submission) if is_valid and run.submission is not None else {}
        for run, is_valid in zip(runs, valid, strict=True)
    ]
    for number, one in enumerate(answers, start=1):
        if score := private_score(problems, [one], target.modulus):
            console.print(f"run {number}: {score.value:.0f} right")
    if score := private_score(problems, answers, target.modulus):
        known = sum(problem.answer is not None for problem in problems)
        console.print(
            f"score of {len(runs)} run{'s' if len(runs) > 1 else ''}: {score.value:.1f} of {known}"
            f" (95% interval {score.low:.1f} to {score.high:.1f})"
        )
    console.print(f"valid files: {sum(valid)} of {len(runs)}; folder: {out}")
    return 0 if all(valid) else 1


def _limit(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ConfigError(f"--limit {text}: give a time above 0, such as 5h")
    return seconds


def _command(notebook: Path | None, competition: str) -> tuple[str, ...]:
    if notebook is None:
        return (sys.executable, "-m", "submissions.kaggle", competition)
    require("executing a notebook", "nbformat", "nbclient")
    if not notebook.is_file():
        raise InputError(f"{notebook}: no such notebook; build it first")
    return (sys.executable, "-m", "submissions.headless", str(notebook.absolute()))


def gateway_package(folder: Path | None) -> Path | None:
    """The folder of `--gateway`. Raises `InputError` if it holds no package of Kaggle's."""
    if folder is not None and not (folder / "kaggle_evaluation").is_dir():
        raise InputError(f"{folder} holds no folder kaggle_evaluation")
    return folder


def new_folder(kind: str) -> Path:
    """A name under runs/ that nobody has."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{kind}-{stamp}-{secrets.token_hex(2)}"


if __name__ == "__main__":
    sys.exit(main())
