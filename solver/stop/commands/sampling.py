"""Shared by the commands that sample: problems, settings, a running solver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from solver.cli.progress import WorkProgress
from solver.config import SolverConfig
from solver.errors import ConfigError, InputError
from solver.files.shards import Shard
from solver.runs.settings import load_config, preset_names
from solver.scorers.confidence import ENTROPY

if TYPE_CHECKING:
    from solver.distributed.hands import Hands
    from solver.journal.events import Event
    from solver.solving.services import Services
    from solver.stop.rollouts.file import SamplingHeader
    from solver.stop.rollouts.rollout import ProblemRollouts
    from solver.stop.rollouts.sample import Sampler, SamplingPlan, Unit
    from solver.types import Problem

T = TypeVar("T")

# settings that a flag decides, or that a sampling does not use
_BY_FLAGS = {
    "model.path": ": use --model",
    "prune.launch": ": use --launch",
    "prune.mark": ": use --mark or --marks",
    "prune.keep": "",
    "prune.scorer": "",
    "seed": ": use --seed",
}

Model = Annotated[str, typer.Option(help="model folder or GGUF file, or 'embedded'")]
Problems = Annotated[
    Path | None, typer.Option(readable=False, help="file of problems with answers")
]
Preset = Annotated[str | None, typer.Option(help=f"{', '.join(preset_names())}  [by the model]")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="any setting: section.key=value")]
Seed = Annotated[int, typer.Option(min=0, help="of every random draw")]
InFlight = Annotated[int, typer.Option(min=1, help="trajectories sampled at a time")]
ShareCalls = Annotated[
    bool | None,
    typer.Option(
        "--share-calls/--own-calls",
        help="run equal calls of a problem once, if its code always prints the same"
        "  [yes for the embedded model]",
    ),
]
Whole = Annotated[
    bool,
    typer.Option(
        "--whole", help="store rollouts to their ends, not to the mark: for the last check"
    ),
]
Part = Annotated[
    Shard | None,
    typer.Option(
        "--shard",
        parser=Shard.parse,
        metavar="I/N",
        help="sample this part of the problems only; `merge` joins the files of all parts",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="sample on a Ray cluster: its address, or 'local' for one on this machine",
    ),
]
Actors = Annotated[int | None, typer.Option(min=1, help="of --ray  [as many as fit]")]
GpusPerActor = Annotated[
    float | None, typer.Option(min=0, help="of --ray  [1 where the cluster has GPUs, else 0]")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="print the result only")]


@dataclass(frozen=True, slots=True)
class Job:
    """The settings of a sampling job, and the header of its file."""

    config: SolverConfig
    plan: SamplingPlan
    header: SamplingHeader


def make_job(
    model: str,
    preset: str | None,
    sets: Sequence[str] | None,
    seed: int,
    launch: int,
    mark: int | None,
    continuations: int,
    in_flight: int,
    share_calls: bool | None,
    whole: bool = False,
) -> Job:
    """Settings by preset, `--set` and flags; `whole` stores rollouts to their ends. Raises `ConfigError`."""
    from solver.policy.answer import FORCED_TOKENS
    from solver.stop.rollouts.file import SamplingHeader
    from solver.stop.rollouts.sample import SamplingPlan

    for text in sets or ():
        key = text.partition("=")[0].strip()
        if key in _BY_FLAGS:
            raise ConfigError(f"--set {key} has no effect here{_BY_FLAGS[key]}")
    overrides: dict[str, object] = {
        "model.path": model if model == "embedded" else str(Path(model).absolute()),
        "prune.launch": launch,
        "prune.keep": 1,
        "prune.scorer": ENTROPY.name,  # nothing is pruned; a server tells of candidates for it
        "seed": seed,
    }
    if mark is not None:
        overrides["prune.mark"] = mark
    config = load_config(preset, None, sets or (), overrides)
    share = model == "embedded" if share_calls is None else share_calls
    if whole and continuations > 1:
        raise ConfigError("--whole is for rollouts that go on to their ends: --continuations 1")
    stored = config.sampling.max_tokens + FORCED_TOKENS if whole else config.prune.mark
    plan = SamplingPlan(launch, config.prune.mark, continuations, share, in_flight, stored)
    sampling = {name: float(value) for name, value in config.sampling.model_dump().items()}
    header = SamplingHeader(
        model=config.model.path,
        prompt=config.model.prompt,
        seed=seed,
        launch=launch,
        continuations=continuations,
        stored_tokens=stored,
        share_calls=share,
        sampling=sampling,
    )
    return Job(config, plan, header)


def problems_of(
    path: Path | None,
    split: str | None,
    num: int,
    seed: int,
    splits: Sequence[str],
    shard: Shard | None,
) -> list[Problem]:
    """Problems with answers, of a file or a split, or a shard of them. Raises `InputError`."""
    from solver.files.problems import load_problems
    from solver.stop.rollouts.heldout import embedded_problems, refuse_unanswered

    if path is not None and split is None:
        given = load_problems(path)
    elif split is None or path is not None:
        raise InputError("give either --problems FILE or --split NAME")
    elif split in splits:
        given = embedded_problems(split, num, seed)
    else:
        raise InputError(f"--split is {' or '.join(splits)} here, not {split!r}")
    refuse_unanswered(given)
    return given if shard is None else shard.part(given)


def part_of(path: Path, shard: Shard) -> Path:
    """`data.rollouts.2-of-4.jsonl`: where the rollouts of a shard go that together go to `path`."""
    return path.with_name(f"{path.stem}.{shard.label}{path.suffix}")


def say_how_to_merge(path: Path, shard: Shard) -> None:
    """Print what is to be done once all shards are sampled."""
    typer.echo(f"shard {shard}: {part_of(path, shard)}")
    parts = path.with_name(f"{path.stem}.*-of-{shard.of}{path.suffix}")
    typer.echo(
        f"when all are there: python -m solver.stop merge {parts} --out {path},"
        " then this command without --shard"
    )


def numbers(text: str, flag: str) -> list[int]:
    """Whole numbers from 1 on of a flag such as `16,32,48`. Raises `ConfigError`."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise ConfigError(f"{flag}: whole numbers from 1 on, such as 16,32,48, not {text!r}")
    return found


@asynccontextmanager
async def running(config: SolverConfig, progress: WorkProgress) -> AsyncIterator[Services]:
    """A solver without a scorer or a journal."""
    from solver import build

    progress.report("loading the model")
    async with build.services(
        config,
        record=_forget,
        started_at=time.monotonic(),
        stopping=asyncio.Event(),
        say=progress.say,
        on_sampled=progress.sampled,
    ) as services:
        progress.ended("loading the model")
        yield replace(services, scorer=None)


def sampler_with(services: Services) -> Sampler:
    """Samples with the engine of `services`."""
    from solver.stop.rollouts.sample import sample_all

    async def sample(
        units: Sequence[Unit], plan: SamplingPlan, on_done: Callable[[ProblemRollouts], None]
    ) -> None:
        await sample_all(units, plan, services, on_done)

    return sample


def sampler_for(config: SolverConfig, hands: Hands | None, progress: WorkProgress) -> Sampler:
    """Samples on a cluster if `hands` are asked for, else in this process."""
    if hands is not None:
        return sampler_on(config, hands, progress)
    return sampler_here(config, progress)


def sampler_here(config: SolverConfig, progress: WorkProgress) -> Sampler:
    """Samples with an engine of its own, which is loaded when there is something to sample."""

    async def sample(
        units: Sequence[Unit], plan: SamplingPlan, on_done: Callable[[ProblemRollouts], None]
    ) -> None:
        async with running(config, progress) as services:
            await sampler_with(services)(units, plan, on_done)

    return sample


def sampler_on(config: SolverConfig, hands: Hands, progress: WorkProgress) -> Sampler:
    """Samples with the engines of a Ray cluster."""
    from solver.distributed.cluster import crew
    from solver.stop.rollouts.remote import sample_remotely

    async def sample(
        units: Sequence[Unit], plan: SamplingPlan, on_done: Callable[[ProblemRollouts], None]
    ) -> None:
        progress.report("starting the actors")
        async with crew(config, hands, progress.say) as (actors, _):
            await sample_remotely(units, plan, actors, on_done, progress)

    return sample


def _forget(event: Event) -> None:
    """Ignore an event: rollouts are written to their own file."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; an exception group is replaced by its first exception."""
    try:
        return asyncio.run(main)
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group
