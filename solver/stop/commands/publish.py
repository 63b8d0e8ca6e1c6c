"""`python -m solver.stop publish`: rollouts and their scores as one file without statements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.files.whole import refuse_existing

EXAMPLE = (
    "Example: python -m solver.stop publish test.rollouts.jsonl --scores test.scores.jsonl"
    " --problems test.csv --out docs/results/mine/test.jsonl.xz"
)


def publish_command(
    rollouts: Annotated[Path, typer.Argument(help="file of full rollouts")],
    problems: Annotated[Path, typer.Option(help="CSV or JSONL with the statements")],
    out: Annotated[Path, typer.Option(help="file to write, such as test.jsonl.xz")],
    scores: Annotated[
        Path | None, typer.Option(help="file of their scores, as `evaluate --scores` writes")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace it")] = False,
) -> None:
    """Write rollouts for others; no statement is in the file.

    With scores, every table can be computed again (`evaluate --published`). Who has the problems trains on
    the rollouts, or scores them with something of their own: see `restore`.
    """
    from solver.files.problems import load_problems
    from solver.stop.evaluation.published import publish
    from solver.stop.evaluation.scores import read_scores
    from solver.stop.rollouts.file import read_rollouts

    refuse_existing(out, force=force)
    header, units = read_rollouts(rollouts)
    statements = {problem.id: problem.statement for problem in load_problems(problems)}
    found = read_scores(scores) if scores is not None else None
    size = publish(out, header, units, statements, found)
    typer.echo(f"{out}: {len(units)} problems, {size / 1e6:.2f} MB")
