"""`python -m solver.stop plan`: how many trajectories to launch and to keep for a budget of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.errors import ConfigError
from solver.policy.retention import PAPER, retention
from solver.stop.plan import fit_runs, parse_tokens, plan_lines

EXAMPLE = "Example: python -m solver.stop plan --budget-tokens 158k --prefix 2048 --length 8650"


def plan_command(
    budget_tokens: Annotated[str, typer.Option(help="a problem may cost; 158k is 158 x 1,024")],
    prefix: Annotated[str, typer.Option(help="sampled tokens at the mark")],
    length: Annotated[str, typer.Option(help="tokens of a whole trajectory")],
    runs: Annotated[
        list[Path] | None,
        typer.Option("--fit", help="run folder of your own sweep; once for each run"),
    ] = None,
) -> None:
    """Say how many to launch and to keep (the retention law of STOP, Eq. 7)."""
    law = PAPER
    if runs:
        law = fit_runs(runs)
        typer.echo(
            f"fitted law: 1/gamma = {law.a:.4g} * C^{law.b:.3g} * Lp^{law.c:.3g} / Lt^{law.d:.3g}"
            " (units of 1,024 tokens)"
        )
    try:
        plan = retention(
            parse_tokens(budget_tokens), parse_tokens(prefix), parse_tokens(length), law
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for line in plan_lines(plan):
        typer.echo(line)
