"""`python -m solver.stop evaluate`: every way of pruning on the same rollouts."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solver.cli.extras import require
from solver.cli.progress import WorkProgress
from solver.distributed.hands import Hands
from solver.embedded.paths import EMBEDDED, model_folder
from solver.errors import ConfigError, InputError, ModelError, PartMissing
from solver.runs.settings import parse_stages
from solver.stop.commands.libraries import quiet_transformers
from solver.stop.commands.sampling import (
    Actors,
    GpusPerActor,
    InFlight,
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
    numbers,
    part_of,
    problems_of,
    run,
    running,
    sampler_for,
    sampler_with,
    say_how_to_merge,
)

if TYPE_CHECKING:
    from solver.config import SolverConfig
    from solver.stop.evaluation.scores import ScoreHeader, Scores
    from solver.stop.rollouts.file import SamplingHeader
    from solver.stop.rollouts.rollout import ProblemRollouts
    from solver.stop.rollouts.sample import Sampler
    from solver.types import Check

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
        list[Path] | None,
        typer.Option(
            help="STOP adapter; again for each training  [the shipped one, if there is one]"
        ),
    ] = None,
    reward_model: Annotated[
        list[Path] | None,
        typer.Option(help="reward model; again for each training  [the shipped verifier, if any]"),
    ] = None,
    last_check: Annotated[
        list[Path] | None,
        typer.Option(
            help="adapter of the last check; again for each training  [the shipped one, if any]"
        ),
    ] = None,
    launch: Annotated[
        int | None, typer.Option(min=1, help="rollouts a problem and seed  [24]")
    ] = None,
    launches: Annotated[
        str | None, typer.Option(help="such as 24,16: also with the first 16 of them alone")
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="of the first table")] = 8,
    keeps: Annotated[str, typer.Option(help="of the sweep")] = "1,2,4,8,12,16",
    marks: Annotated[
        str | None, typer.Option(help="such as 16,32,48; the first one is the main one")
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(
            help="several checks against one with as many tokens, such as 64:16+96:8,64:12+96:6"
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="blocks of rollouts a problem  [1]")
    ] = None,
    rollouts: Annotated[
        Path | None,
        typer.Option(help="file of rollouts: sampled into, gone on with, or used  [in runs/]"),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="file of scores: written, gone on with, or used")
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="file of `publish`: nothing is sampled or scored")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="model folder or GGUF file  [that of the rollouts, else 'embedded']"),
    ] = None,
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
    quiet: Quiet = False,
) -> None:
    """Compare every way of pruning on the same full rollouts; writes tables and pictures.

    With --rollouts alone, what is in the file is compared, and nothing is sampled. With --scores, what is
    scored is kept, and with --published all there is comes from that file. With --shard, rollouts
    are sampled only: they are compared once all shards are merged. With --ray they are sampled on a
    cluster and scored here.
    """
    require("an evaluation", "matplotlib")
    chosen_marks = numbers(marks, "--marks") if marks else None
    chosen_keeps = numbers(keeps, "--keeps")
    plans = [parse_stages(text) for text in stages.split(",")] if stages else []
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: --out is the folder of the report")
    sampling = {"--launch": launch, "--seeds": seeds, "--shard": shard, "--ray": ray}
    if published is not None:
        read = {
            "--rollouts": rollouts,
            "--scores": scores,
            "--problems": problems,
            "--split": split,
        }
        by = {"--adapter": adapter, "--reward-model": reward_model, "--last-check": last_check}
        settings = {"--model": model, "--preset": preset, "--set": sets}
        _refuse({**sampling, **read, **by, **settings}, published)
        _report_published(published, out, launches, chosen_marks, keep, chosen_keeps, plans, seed)
        return
    saved = _saved(rollouts) if problems is None and split is None and rollouts else None
    if saved is not None and rollouts is not None:
        if launch == saved.header.launch:
            del sampling["--launch"]
        _refuse(sampling, rollouts)
        launch = saved.header.launch
        model = model or saved.header.model
        sets = [f"model.prompt={saved.header.prompt}", *(sets or [])]
    launch = launch or 24
    path_of_model = model or EMBEDDED
    splits = ("test", "validation")
    given = [] if saved else problems_of(problems, split, num, seed, splits, shard)
    largest = max(chosen_marks) if chosen_marks else None
    job = make_job(
        path_of_model, preset, sets, seed, launch, largest, 1, in_flight, share_calls, whole
    )
    hands = Hands.of_flags(ray, actors, gpus_per_actor)
    chosen_marks = chosen_marks or [job.plan.mark]
    chosen_launches = numbers(launches, "--launches") if launches else [launch]

    quiet_transformers()
    from solver.stop.evaluation import evaluate as steps
    from solver.stop.evaluation.judging import missing, score_units
    from solver.stop.evaluation.scores import Scores
    from solver.stop.rollouts.collect import check_whole
    from solver.stop.rollouts.file import as_stored

    path = rollouts or Path("runs") / f"{out.name}.rollouts.jsonl"
    header = saved.header if saved else as_stored(job.header, path)
    stored = header.stored_tokens
    steps.check_settings(launch, chosen_launches, keep, chosen_marks, stored)
    steps.check_plans(plans, chosen_launches[0], chosen_marks)
    if last_check:
        check_whole(header, path)
    trained = _Trained(adapter or [], reward_model or [], last_check or [])
    draws = trained.draws(job.config)
    scored_by = model_folder(path_of_model)
    # a shard scores nothing, and others sample at the same time
    scores = scores if shard is None else None
    found = Scores(trained.header(header, job.config, scored_by), scores)

    async def rollouts_by(sampler: Sampler) -> list[ProblemRollouts]:
        part = path if shard is None else part_of(path, shard)
        return await steps.full_rollouts(
            given, seeds or 1, job.plan, job.header, sampler, part, progress
        )

    async def work(units: list[ProblemRollouts] | None) -> None:
        async with running(job.config, progress) as services:
            if units is None:
                units = await rollouts_by(sampler_with(services))
            left = missing(found, units, chosen_launches, chosen_marks)
            await score_units(
                left,
                chosen_launches,
                chosen_marks,
                draws,
                services,
                scored_by,
                found,
                progress,
            )

    with closing(found), WorkProgress(quiet=quiet) as progress:
        units = saved.units if saved is not None else None
        if units is None and (shard is not None or hands is not None):
            units = run(rollouts_by(sampler_for(job.config, hands, progress)))
        if shard is not None:
            say_how_to_merge(path, shard)
            return
        if units is None or missing(found, units, chosen_launches, chosen_marks):
            run(work(units))
        progress.report("comparing the methods")
        _report(
            found,
            out,
            chosen_launches,
            chosen_marks,
            keep,
            chosen_keeps,
            plans,
            seed,
        )


def _report_published(
    path: Path,
    out: Path,
    launches: str | None,
    marks: Sequence[int] | None,
    keep: int,
    keeps: Sequence[int],
    plans: Sequence[tuple[Check, ...]],
    seed: int,
) -> None:
    from solver.stop.evaluation.evaluate import check_plans, check_settings
    from solver.stop.evaluation.published import read_published

    scores = read_published(path).scores
    known = scores.settings()
    if not known:
        raise InputError(f"{path} holds no scores: `restore` its rollouts, and evaluate those")
    known_launches = sorted({launch for launch, _ in known}, reverse=True)
    chosen_launches = numbers(launches, "--launches") if launches else known_launches
    chosen_marks = marks or sorted({mark for _, mark in known})
    chosen = list(product(chosen_launches, chosen_marks))
    if unknown := [setting for setting in chosen if setting not in known]:
        launch, mark = unknown[0]
        raise ConfigError(f"{path} has {scores.said_settings()}, not {launch} at {mark}")
    scores.refuse_partial(scores.units(), chosen, path)
    check_settings(max(known_launches), chosen_launches, keep, chosen_marks, max(chosen_marks))
    check_plans(plans, chosen_launches[0], chosen_marks)
    _report(scores, out, chosen_launches, chosen_marks, keep, keeps, plans, seed)


def _report(
    scores: Scores,
    out: Path,
    launches: Sequence[int],
    marks: Sequence[int],
    keep: int,
    keeps: Sequence[int],
    plans: Sequence[tuple[Check, ...]],
    seed: int,
) -> None:
    """Tables and pictures of everything that is scored; the first launch and mark are the main ones."""
    from solver.stop.evaluation import evaluate as steps

    settings = {(launch, mark): scores.at(launch, mark) for launch in launches for mark in marks}
    main = (launches[0], marks[0], keep)
    comparison = steps.compare(settings, main, sorted({keep, *keeps}), seed, plans)
    units = settings[main[:2]]
    blocks, num_problems = {u.block for u in units}, len({u.problem_id for u in units})
    sampling, trainings = scores.header.sampling, scores.header.num_draws
    facts = [
        f"{num_problems} problems, {len(blocks)} x {sampling.launch} rollouts each, model"
        f" {Path(sampling.model).name}, temperature {sampling.sampling['temperature']:g}. Average: share"
        " of right ends among the voters; vote: whether their majority is right; 95 % bootstrap intervals"
        f" over problems{f' and {trainings} trainings' if trainings > 1 else ''}; bold differences leave 0"
        " out. Rollouts that end before the mark vote with the kept ones."
    ]
    command = "python -m solver.stop " + shlex.join(sys.argv[1:])
    title = f"Pruning {launches[0]} to {keep} on {Path(sampling.model).name}"
    for written in steps.write_report(out, comparison, title, command, facts):
        typer.echo(str(written))


@dataclass(frozen=True, slots=True)
class _Saved:
    """Rollouts that were sampled before."""

    header: SamplingHeader
    units: list[ProblemRollouts]


def _fingerprint(model: Path) -> str:
    """The model's; empty where it is not here whole: scores that are all there need no model."""
    from solver.adapter.fingerprint import fingerprint

    try:
        return fingerprint(model) if model.exists() else ""
    except ModelError:
        return ""


def _refuse(flags: Mapping[str, object], path: Path) -> None:
    """Raise `ConfigError` if one of `flags` is given, where `path` is compared as it is."""
    for flag, value in flags.items():
        if value is not None:
            instead = " (--launches takes the first so many)" if flag == "--launch" else ""
            raise ConfigError(f"{flag} has no effect: {path} is compared as it is{instead}")


def _saved(path: Path) -> _Saved:
    from solver.stop.rollouts.file import read_rollouts

    header, units = read_rollouts(path)
    if header.continuations != 1 or not units:
        raise InputError(f"{path} holds no full rollouts to compare on")
    return _Saved(header, units)


@dataclass(frozen=True, slots=True)
class _Trained:
    """The folders that flags named, one for each training; what is shipped needs no flag."""

    adapters: Sequence[Path]
    reward_models: Sequence[Path]
    last_checks: Sequence[Path]

    def header(self, sampling: SamplingHeader, config: SolverConfig, model: Path) -> ScoreHeader:
        """What scores by these are of, and by what the config names or is shipped where no flag names one."""
        from solver.scorers.folders import adapter_folder, last_check_folder, reward_folder
        from solver.stop.evaluation.scores import ScoreHeader, folder_digest

        def digests(
            named: Sequence[Path], otherwise: Callable[[SolverConfig], Path]
        ) -> tuple[str, ...]:
            try:
                return tuple(map(folder_digest, named or [otherwise(config)]))
            except PartMissing:
                return ()

        return ScoreHeader(
            sampling=sampling,
            adapters=digests(self.adapters, adapter_folder),
            reward_models=digests(self.reward_models, reward_folder),
            last_checks=digests(self.last_checks, last_check_folder),
            model=_fingerprint(model),
        )

    def draws(self, config: SolverConfig) -> list[SolverConfig]:
        """A config for each training. Of what was trained less often, the same training serves again."""
        named = {
            ("prune", "adapter"): self.adapters,
            ("prune", "reward_model"): self.reward_models,
            ("vote", "adapter"): self.last_checks,
        }
        draws = []
        for number in range(max(1, *map(len, named.values()))):
            draw = config
            for (section, key), folders in named.items():
                if folders:
                    values = {key: str(folders[number % len(folders)])}
                    changed = getattr(draw, section).model_copy(update=values)
                    draw = draw.model_copy(update={section: changed})
            draws.append(draw)
        return draws
