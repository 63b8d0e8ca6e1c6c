"""`python -m solver.stop convert`: the authors' checkpoint to an adapter folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.embedded.paths import EMBEDDED
from solver.errors import InputError
from solver.stop.commands.libraries import quiet_transformers

EXAMPLE = "Example: python -m solver.stop convert checkpoints/theirs --base models/qwen --out adapters/qwen"


def convert_command(
    source: Annotated[Path, typer.Argument(help="the authors' checkpoint folder")],
    base: Annotated[str, typer.Option(help="model folder, or 'embedded'")],
    out: Annotated[Path, typer.Option(help="adapter folder to write")],
    mark: Annotated[int, typer.Option(min=1, help="sampled tokens of its prefixes")] = 2048,
    dialect: Annotated[str, typer.Option(help="conversation format of its prefixes")] = "fenced",
    prompt: Annotated[str, typer.Option(help="prompt template of its prefixes")] = "bare",
    stop_id: Annotated[int | None, typer.Option(help="use this id  [the checkpoint's]")] = None,
) -> None:
    """Convert a checkpoint in the STOP authors' layout; nothing in it is executed."""
    from solver.embedded.paths import model_folder

    if not source.is_dir():
        raise InputError(f"{source} is not a folder")
    quiet_transformers()
    from solver.adapter.convert import convert

    spec = convert(
        source,
        model_folder(base),
        out,
        mark=mark,
        dialect=dialect,
        prompt=prompt,
        stop_token_id=stop_id,
        base_name=EMBEDDED if base == EMBEDDED else None,
    )
    typer.echo(
        f"{out}: {len(spec.stop_token_ids)} [STOP] tokens, rank {spec.rank} on "
        f"{', '.join(spec.targets)}, mark {spec.mark}"
    )
