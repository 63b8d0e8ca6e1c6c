"""`python -m solver.stop merge`: the rollouts of several shards in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.files.whole import refuse_existing

EXAMPLE = (
    "Example: python -m solver.stop merge data.jsonl.rollouts.*-of-4.jsonl"
    " --out data.jsonl.rollouts.jsonl"
)


def merge_command(
    files: Annotated[list[Path], typer.Argument(readable=False, help="files of rollouts")],
    out: Annotated[Path, typer.Option(help="file to write")],
    force: Annotated[bool, typer.Option("--force", help="replace it")] = False,
) -> None:
    """Put files of rollouts together; collect or evaluate then go on with the merged file."""
    from solver.stop.rollouts.file import merge_rollouts

    refuse_existing(out, force=force)
    num = merge_rollouts(files, out)
    typer.echo(f"{out}: the rollouts of {num} problems")
