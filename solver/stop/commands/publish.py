"""`python -m solver.stop publish`: rollouts and their scores as one file without statements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.errors import InputError

EXAMPLE = (
    "Example: python -m solver.stop publish test.rollouts.jsonl --scores test.scores.jsonl"
    " --problems test.csv --out docs/results/mine/test.jsonl.xz"
)


def publish_command(
    rollouts: Annotated[Path, typer.Argument(help="file of full rollouts")],
    scores: Annotated[
        Path, typer.Option(help="file of their scores, as `evaluate --scores` writes")
    ],
    problems: Annotated[Path, typer.Option(help="CSV or JSONL with the statements")],
    out: Annotated[Path, typer.Option(help="file to write, such as test.jsonl.xz")],
) -> None:
    """Write test rollouts for others: every table can be computed again, no statement is in it."""
    from solver.files.problems import load_problems
    from solver.stop.evaluation.published import publish
    from solver.stop.evaluation.scores import read_scores
    from solver.stop.rollouts.file import read_rollouts

    header, units = read_rollouts(rollouts)
    statements = {problem.id: problem.statement for problem in load_problems(problems)}
    found = read_scores(scores)
    if found.header.sampling != header:
        raise InputError(f"{scores} is of other rollouts than {rollouts}")
    size = publish(out, units, found, statements)
    typer.echo(f"{out}: {len(units)} problems, {size / 1e6:.2f} MB")
