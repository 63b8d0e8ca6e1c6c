"""`python -m solver.stop ablate`: how each setting changes a trained adapter, over saved data."""

from __future__ import annotations

import hashlib
import math
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solver.cli.extras import require
from solver.cli.progress import WorkProgress
from solver.errors import ConfigError, InputError
from solver.scorers.stop import STOP
from solver.stop.commands.libraries import quiet_transformers
from solver.stop.commands.sampling import Quiet

if TYPE_CHECKING:
    from solver.stop.ablation.grid import Point
    from solver.stop.ablation.results import Result
    from solver.stop.training.recipe import Recipe

EXAMPLE = (
    "Example: python -m solver.stop ablate data.jsonl --base embedded"
    " --rollouts runs/embedded.rollouts.jsonl --out docs/results/ablation"
)
_LISTS = ("targets", "stop_token_ids")


def ablate_command(
    data: Annotated[
        Path, typer.Argument(help="JSONL of examples as `collect` writes them, or *.rollouts.jsonl")
    ],
    base: Annotated[str, typer.Option(help="model folder or GGUF file, or 'embedded'")],
    rollouts: Annotated[Path, typer.Option(help="full rollouts to evaluate on, as of `evaluate`")],
    out: Annotated[Path, typer.Option(help="folder of the report")],
    grid: Annotated[str, typer.Option(help="small or full")] = "small",
    only: Annotated[str | None, typer.Option(help="axes such as rank,noise  [all]")] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(help="other values of an axis, such as problems=100,200,400; may be repeated"),
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="of the evaluation")] = 8,
    mark: Annotated[
        int | None, typer.Option(min=1, help="of the base point  [the data's own]")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="recipe: embedded, paper or few-problems")
    ] = "embedded",
    recipe_sets: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="change of the recipe, such as epochs=8; may be repeated"),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="folder of the points that are done  [in runs/]")
    ] = None,
    kv: Annotated[
        Path | None, typer.Option(help="folder of the base model's prefix KV  [in memory]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto or cpu")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch")] = None,
    quiet: Quiet = False,
) -> None:
    """Train and evaluate again and again, one thing changed at a time; started again, it goes on.

    Nothing is sampled: all that changes is computed from the data and the evaluation rollouts.
    """
    from solver.adapter.fingerprint import fingerprint, read_config
    from solver.embedded.paths import model_folder
    from solver.stop.ablation.data import read_material
    from solver.stop.ablation.grid import plan_points, report_order
    from solver.stop.ablation.results import ResultFile
    from solver.stop.rollouts.examples import digest
    from solver.stop.rollouts.file import read_rollouts

    require("an ablation", "accelerate", "matplotlib")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"--device is auto or cpu, not {device!r}")
    folder, recipe = model_folder(base), _recipe(preset, recipe_sets or [])
    material = read_material(data, read_config(folder).get("vocab_size"), mark)
    header, units = read_rollouts(rollouts)
    if header.continuations != 1 or not units:
        raise InputError(f"{rollouts} holds no full rollouts to evaluate on")
    if keep > header.launch:
        raise ConfigError(f"--keep must be from 1 to the launch of {header.launch}, not {keep}")
    if material.mark > header.stored_tokens:
        raise ConfigError(
            f"{rollouts} holds {header.stored_tokens} tokens a rollout, the mark is {material.mark}"
        )

    quiet_transformers()
    import torch

    from solver.stop.ablation.ablate import run_points
    from solver.stop.ablation.report import write_ablation
    from solver.stop.ablation.task import Ablation

    if threads is not None:
        torch.set_num_threads(threads)
    work = work or Path("runs") / f"{out.name}.ablation"
    ablation = Ablation(material, tuple(units), folder, recipe, keep, work, device == "cpu", kv)
    ablation.check()
    facts = ablation.facts(header.stored_tokens)
    points, notes = plan_points(grid, only.split(",") if only else (), facts, _given(values or []))
    with rollouts.open("rb") as stream:
        evaluated_on = hashlib.file_digest(stream, "sha256").hexdigest()
    identity: dict[str, object] = {
        "base model": fingerprint(folder),
        "data": digest(material.examples),
        "evaluation": evaluated_on,
        "mark": material.mark,
        "keep": keep,
        "recipe": recipe.model_dump(mode="json"),
    }
    results = ResultFile(work / "points.jsonl", identity)
    done = sum((point.axis, point.value) in results.done for point in points)
    _say(f"{len(points)} points, {done} of them done before", quiet)

    def on_point(point: Point, result: Result | str) -> None:
        nonlocal done
        done += 1
        _say(f"{done} of {len(points)}: {point.name}: {_outcome(result)}", quiet)

    with closing(results), WorkProgress(quiet=quiet) as progress:
        failed = run_points(ablation, points, results, progress, on_point)
    for point, reason in failed.items():
        earlier = f"{notes[point.axis]}; " if point.axis in notes else ""
        notes[point.axis] = f"{earlier}{point.value}: {reason}"
    found = [results.done[key] for key in sorted(results.done, key=lambda k: report_order(*k))]
    blocks, evaluated = {unit.block for unit in units}, {unit.problem_id for unit in units}
    head = [
        f"# Ablation of STOP on {base}",
        "",
        f"    python -m solver.stop {shlex.join(sys.argv[1:])}",
        "",
        f"Mark {facts.mark}, {header.launch} to {keep}, {len(evaluated)} evaluation problems,"
        f" {len(blocks)} x {header.launch} rollouts each, the same at every point."
        f" {material.note()}",
        "",
        "95 % bootstrap intervals over problems; differences are paired by problem, bold ones leave"
        " 0 out. One training a point: see the axis `seed` for what another seed changes.",
    ]
    for written in write_ablation(out, found, facts, notes, head, recipe.seed):
        typer.echo(str(written))


def _recipe(preset: str, sets: list[str]) -> Recipe:
    """The base's recipe without the AUROC floor, because bad points are results too."""
    from solver.stop.training.recipe import make_recipe

    changes: dict[str, object] = {"auroc_floor": 0.0}
    for text in sets:
        name, found, value = text.partition("=")
        if not found:
            raise ConfigError(f"--recipe takes name=value, such as epochs=8, not {text!r}")
        listed = name in _LISTS and value != "all-linear"
        changes[name] = value.split(",") if listed else value
    return make_recipe(preset, changes)


def _given(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Values of axes from texts such as `problems=100,200`. Raises `ConfigError`."""
    given = {}
    for text in texts:
        axis, found, numbers = text.partition("=")
        try:
            if not found:
                raise ValueError
            given[axis] = tuple(float(number) for number in numbers.split(","))
            if not all(map(math.isfinite, given[axis])):
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"--values takes axis=numbers, such as problems=100,200, not {text!r}"
            ) from None
    return given


def _outcome(result: Result | str) -> str:
    from solver.stop.ablation.table import interval_of

    if isinstance(result, str):
        return f"not done: {result}"
    found = {
        what: interval_of(result, STOP.name, what, 0) for what in ("within", "average", "vote")
    }
    shown = {what: "-" if x is None else f"{x.value:.3f}" for what, x in found.items()}
    return (
        f"AUROC within {shown['within']}, average {shown['average']}, vote {shown['vote']},"
        f" training {result.seconds:.0f} s"
    )


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(line, err=True)
