"""`python -m solver.stop transfer`: scores of several trainings on several sets, as one table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from solver.errors import ConfigError
from solver.files.whole import refuse_existing
from solver.stop.commands.sampling import Seed

EXAMPLE = (
    "Example: python -m solver.stop transfer gsm8k:math=a.scores.jsonl math:gsm8k=b.jsonl.xz"
    " --mark 48 --keep 8 --out transfer.md"
)


def transfer_command(
    tests: Annotated[
        list[str],
        typer.Argument(help="TRAINED:TESTED=FILE, a file of `evaluate --scores` or of `publish`"),
    ],
    mark: Annotated[int, typer.Option(min=1, help="sampled tokens of the prefixes")],
    out: Annotated[Path, typer.Option(help="Markdown to write")],
    launch: Annotated[int, typer.Option(min=1, help="rollouts a problem")] = 24,
    keep: Annotated[int, typer.Option(min=1, help="how many are kept")] = 8,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="replace it")] = False,
) -> None:
    """Say what adapters are worth on problems of other sets than those they were trained on."""
    from solver.files.whole import write_whole
    from solver.stop.evaluation.published import read_published
    from solver.stop.evaluation.scores import read_scores
    from solver.stop.evaluation.transfer import transfer_table

    refuse_existing(out, force=force)
    if keep > launch:
        raise ConfigError(f"--keep must be from 1 to the launch of {launch}, not {keep}")
    tested = {}
    for test in tests:
        names, found, file = test.partition("=")
        trained_on, also, tested_on = names.partition(":")
        if not (found and also):
            raise ConfigError(f"a test is TRAINED:TESTED=FILE, not {test!r}")
        if (trained_on, tested_on) in tested:
            raise ConfigError(f"{names} is given twice")
        path = Path(file)
        scores = read_published(path).scores if path.suffix == ".xz" else read_scores(path)
        if (launch, mark) not in scores.settings():
            raise ConfigError(f"{path} has {scores.said_settings()}, not {launch} at {mark}")
        scores.refuse_partial(scores.units(), [(launch, mark)], path)
        tested[trained_on, tested_on] = scores.at(launch, mark)
    lines = [
        f"# Trained on one set, tested on another: {launch} to {keep} at mark {mark}",
        "",
        f"    python -m solver.stop {shlex.join(sys.argv[1:])}",
        "",
        *transfer_table(tested, keep, seed),
    ]
    write_whole(out, "\n".join(lines) + "\n")
    typer.echo("\n".join(lines))
