"""`python -m sandbox check` and `python -m sandbox run FILE.py`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from sandbox.check import check as try_claims
from sandbox.isolation import isolation
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.result import ExecutionStatus, for_model

CELL = re.compile(r"^# ?%%.*\n", re.MULTILINE)
HOLDS = {True: "yes", False: "NO", None: "not claimed"}
app = typer.Typer(add_completion=False, help="Stateful Jupyter kernels for model-written Python.")


@app.command()
def check() -> None:
    """Try here everything that the sandbox claims; exit code 1 when a claim does not hold."""
    console = Console()
    held = isolation()
    console.print(f"isolation: {held} ({held.level})", highlight=False)
    findings = asyncio.run(try_claims())
    table = Table("guarantee", "mechanism", "holds")
    for finding in findings:
        note = f": {finding.note}" if finding.note else ""
        table.add_row(finding.guarantee, finding.mechanism, f"{HOLDS[finding.holds]}{note}")
    console.print(table)
    if any(finding.holds is False for finding in findings):
        raise typer.Exit(1)


@app.command()
def run(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="cells, parted by # %%")
    ],
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds a cell")] = 30.0,
) -> None:
    """Run a file in a sandbox and print what a model would be told; exit code 1 after a failure."""
    try:
        cells = [cell for cell in CELL.split(file.read_text(encoding="utf-8")) if cell.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from None
    if not asyncio.run(_run(cells, timeout)):
        raise typer.Exit(1)


async def _run(cells: list[str], timeout_s: float) -> bool:
    limits = Limits(spares=0)
    async with KernelPool(limits) as pool, pool.lease() as sandbox:
        typer.echo(f"isolation: {pool.isolation}", err=True)
        for cell in cells:
            result = await sandbox.execute(cell, timeout_s)
            typer.echo(for_model(result, limits))
            if result.status is not ExecutionStatus.OK:
                return False
    return True


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m sandbox") -> NoReturn:
    """Run the command and end the process with its exit code."""
    app(args=argv, prog_name=prog)
    raise AssertionError("typer ends the process")


if __name__ == "__main__":
    main()
