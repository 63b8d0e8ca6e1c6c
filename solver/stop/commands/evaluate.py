"""`python -m solver.stop evaluate`: every way of pruning on the same rollouts."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solver.cli.extras import require
from solver.cli.progress import WorkProgress
from solver.errors import InputError
from solver.stop.commands.libraries import quiet_transformers
from solver.stop.commands.sampling import (
    InFlight,
    Model,
    Preset,
    Problems,
    Quiet,
    Seed,
    Sets,
    ShareCalls,
    make_job,
    numbers,
    problems_of,
    run,
    running,
)

if TYPE_CHECKING:
    from solver.config import SolverConfig
    from solver.stop.evaluation.scoring import Marked
    from solver.stop.rollouts.file import SamplingHeader
    from solver.stop.rollouts.rollout import ProblemRollouts

EXAMPLE = (
    "Example: python -m solver.stop evaluate --split test --num 300 --launch 24 --keep 8"
    " --marks 32 --seeds 3 --out docs/results/embedded"
)


def evaluate_command(
    out: Annotated[Path, typer.Option(help="folder of the report")],
    problems: Problems = None,
    split: Annotated[
        str | None, typer.Option(help="embedded problems instead: test or validation")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="how many of the split")] = 300,
    adapter: Annotated[
        Path | None, typer.Option(help="STOP adapter  [the shipped one, if there is one]")
    ] = None,
    reward_model: Annotated[
        Path | None, typer.Option(help="reward model  [the shipped verifier, if there is one]")
    ] = None,
    launch: Annotated[int, typer.Option(min=1, help="rollouts a problem and seed")] = 24,
    keep: Annotated[int, typer.Option(min=1, help="of the first table")] = 8,
    keeps: Annotated[str, typer.Option(help="of the sweep")] = "1,2,4,8,12,16",
    marks: Annotated[
        str | None, typer.Option(help="such as 16,32,48; the first one is the main one")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="blocks of rollouts a problem")] = 1,
    rollouts: Annotated[
        Path | None,
        typer.Option(help="file of rollouts: sampled into, gone on with, or used  [in runs/]"),
    ] = None,
    model: Model = "embedded",
    preset: Preset = None,
    sets: Sets = None,
    seed: Seed = 0,
    in_flight: InFlight = 64,
    share_calls: ShareCalls = None,
    quiet: Quiet = False,
) -> None:
    """Compare every way of pruning on the same full rollouts; writes tables and pictures.

    With --rollouts alone, what is in the file is compared, and nothing is sampled.
    """
    require("an evaluation", "matplotlib")
    chosen_marks = numbers(marks, "--marks") if marks else None
    saved = _saved(rollouts) if problems is None and split is None and rollouts else None
    if saved is not None:
        launch = saved.header.launch
    given = [] if saved else problems_of(problems, split, num, seed, ("test", "validation"))
    largest = max(chosen_marks) if chosen_marks else None
    job = make_job(model, preset, sets, seed, launch, largest, 1, in_flight, share_calls)
    chosen_marks = chosen_marks or [job.plan.mark]
    chosen_keeps = sorted({k for k in [keep, *numbers(keeps, "--keeps")] if k <= launch})

    quiet_transformers()
    from solver.embedded.paths import model_folder
    from solver.stop.evaluation import evaluate as steps

    stored = saved.header.stored_tokens if saved else job.plan.mark
    steps.check_settings(launch, keep, chosen_marks, stored)
    path = rollouts or Path("runs") / f"{out.name}.rollouts.jsonl"
    config = _with_folders(job.config, adapter, reward_model)

    async def work() -> dict[int, list[Marked]]:
        async with running(job.config, progress) as services:
            if saved is not None:
                units = saved.units
            else:
                units = await steps.full_rollouts(
                    given, seeds, job.plan, job.header, services, path, progress
                )
            return await steps.score_marks(
                units, chosen_marks, config, services, model_folder(model), progress
            )

    with WorkProgress(quiet=quiet) as progress:
        by_mark = run(work())
        progress.report("comparing the methods")
        comparison = steps.compare(by_mark, (chosen_marks[0], keep), chosen_keeps, seed)
    blocks = {unit.block for unit in by_mark[chosen_marks[0]]}
    num_problems = len({unit.problem_id for unit in by_mark[chosen_marks[0]]})
    facts = [
        f"{num_problems} problems, {len(blocks)} x {launch} rollouts each, model {model},"
        f" temperature {job.config.sampling.temperature:g}. Average: share of right ends among the"
        " voters; vote: whether their majority is right; 95 % bootstrap intervals over problems;"
        " bold differences leave 0 out. Rollouts that end before the mark vote with the kept ones."
    ]
    command = "python -m solver.stop " + shlex.join(sys.argv[1:])
    title = f"Pruning {launch} to {keep} on {model}"
    for written in steps.write_report(out, comparison, title, command, facts):
        typer.echo(str(written))


@dataclass(frozen=True, slots=True)
class _Saved:
    """Rollouts that were sampled before."""

    header: SamplingHeader
    units: list[ProblemRollouts]


def _saved(path: Path) -> _Saved:
    from solver.stop.rollouts.file import read_rollouts

    header, units = read_rollouts(path)
    if header.continuations != 1 or not units:
        raise InputError(f"{path} holds no full rollouts to compare on")
    return _Saved(header, units)


def _with_folders(
    config: SolverConfig, adapter: Path | None, reward_model: Path | None
) -> SolverConfig:
    """The config with the folders that flags named; what is shipped with the model needs no flag."""
    named = {"adapter": adapter, "reward_model": reward_model}
    changes = {key: str(folder) for key, folder in named.items() if folder is not None}
    return config.model_copy(update={"prune": config.prune.model_copy(update=changes)})
