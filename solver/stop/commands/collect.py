"""`python -m solver.stop collect`: problems to labelled prefixes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solver.cli.progress import WorkProgress
from solver.distributed.hands import Hands
from solver.errors import ConfigError
from solver.files.whole import refuse_existing
from solver.stop.commands.libraries import quiet_transformers
from solver.stop.commands.sampling import (
    Actors,
    GpusPerActor,
    InFlight,
    Model,
    Part,
    Preset,
    Problems,
    Quiet,
    Ray,
    Seed,
    Sets,
    ShareCalls,
    Whole,
    make_job,
    part_of,
    problems_of,
    run,
    sampler_for,
    say_how_to_merge,
)

if TYPE_CHECKING:
    from solver.stop.rollouts.rollout import ProblemRollouts

EXAMPLE = (
    "Example: python -m solver.stop collect --split stop --num 720 --launch 16 --out data.jsonl"
)


def collect_command(
    out: Annotated[Path, typer.Option(help="JSONL of examples to write")],
    problems: Problems = None,
    split: Annotated[
        str | None, typer.Option(help="embedded problems instead: stop or validation")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="how many of the split")] = 720,
    launch: Annotated[int, typer.Option(min=1, help="trajectories a problem")] = 16,
    continuations: Annotated[
        int, typer.Option(min=1, help="K a prefix; 1: each trajectory's own end is its label")
    ] = 1,
    mark: Annotated[
        int | None, typer.Option(min=1, help="sampled tokens of a prefix  [the preset's]")
    ] = None,
    least_right: Annotated[
        float, typer.Option(min=0, max=1, help="drop problems that are right less often")
    ] = 4 / 32,
    most_right: Annotated[
        float, typer.Option(min=0, max=1, help="drop problems that are right more often")
    ] = 28 / 32,
    exclude: Annotated[
        Path | None, typer.Option(help="held-out problems: a table, or one id a line")
    ] = None,
    model: Model = "embedded",
    preset: Preset = None,
    sets: Sets = None,
    seed: Seed = 0,
    in_flight: InFlight = 64,
    share_calls: ShareCalls = None,
    whole: Whole = False,
    shard: Part = None,
    ray: Ray = None,
    actors: Actors = None,
    gpus_per_actor: GpusPerActor = None,
    force: Annotated[bool, typer.Option("--force", help="replace the examples")] = False,
    quiet: Quiet = False,
) -> None:
    """Sample rollouts, cut them at the mark, label the prefixes; started again, it goes on.

    With --shard, rollouts are sampled only: the examples are written once all shards are merged.
    """
    from solver.stop.rollouts.heldout import refuse_held_out

    if least_right > most_right:
        raise ConfigError("--least-right is above --most-right: no problem would be left")
    refuse_existing(out, force=force)
    given = problems_of(problems, split, num, seed, ("stop", "validation"), shard)
    refuse_held_out(given, exclude)
    job = make_job(
        model, preset, sets, seed, launch, mark, continuations, in_flight, share_calls, whole
    )
    hands = Hands.of_flags(ray, actors, gpus_per_actor)
    rollouts = out.with_name(f"{out.name}.rollouts.jsonl")

    quiet_transformers()
    from solver.stop.rollouts.collect import collect, select, write_collected

    async def work() -> list[ProblemRollouts]:
        with WorkProgress(quiet=quiet) as progress:
            sampler = sampler_for(job.config, hands, progress)
            path = rollouts if shard is None else part_of(rollouts, shard)
            return await collect(given, job.plan, job.header, sampler, path, progress)

    units = run(work())
    if shard is not None:
        return say_how_to_merge(rollouts, shard)
    collected = select(units, job.plan.mark, least_right, most_right)
    write_collected(out, collected)
    for line in collected.lines():
        typer.echo(line)
    typer.echo(f"{out} (rollouts: {rollouts})")
    return None
