"""`python -m solver.stop restore`: published rollouts, with their prompts again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.errors import InputError
from solver.files.whole import refuse_existing
from solver.stop.commands.sampling import Preset

EXAMPLE = (
    "Example: python -m solver.stop restore docs/results/mine/test.jsonl.xz --problems test.jsonl"
    " --model models/mine --out test.rollouts.jsonl"
)


def restore_command(
    published: Annotated[Path, typer.Argument(help="file of `publish`")],
    problems: Annotated[Path, typer.Option(help="file with the statements, in any order")],
    model: Annotated[str, typer.Option(help="model folder or GGUF file, or 'embedded'")],
    out: Annotated[Path, typer.Option(help="file to write: NAME.rollouts.jsonl")],
    some: Annotated[
        bool, typer.Option("--some", help="the rollouts of those problems only that the file has")
    ] = False,
    preset: Preset = None,
    force: Annotated[bool, typer.Option("--force", help="replace it")] = False,
) -> None:
    """Put the statements back into published rollouts: `train` and `evaluate` take what it writes."""
    from solver.build import open_dialect
    from solver.embedded.paths import model_folder
    from solver.files.problems import load_problems
    from solver.runs.settings import load_config
    from solver.stop.commands.libraries import quiet_transformers
    from solver.stop.evaluation.published import read_published, restored
    from solver.stop.rollouts.file import ROLLOUTS, write_rollouts

    if not out.name.endswith(ROLLOUTS):
        raise InputError(f"{out}: `train` knows such a file by its name: end it with {ROLLOUTS}")
    refuse_existing(out, force=force)
    found = read_published(published)
    sampling = found.scores.header.sampling.model_copy(update={"model": model})
    config = load_config(preset, None, [f"model.prompt={sampling.prompt}"], {"model.path": model})
    known = load_problems(problems)
    quiet_transformers()
    units = restored(found, known, open_dialect(config, model_folder(model)), some=some)
    write_rollouts(out, sampling, units)
    typer.echo(f"{out}: the rollouts of {len(units)} problems")
