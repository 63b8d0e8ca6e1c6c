"""`python -m sandbox check`, `python -m sandbox run FILE...` and `python -m sandbox mcp`."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn, get_args

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from sandbox.check import check as try_claims
from sandbox.isolation import IsolationError, isolation
from sandbox.limits import Layer, Limits
from sandbox.pool import KernelPool
from sandbox.result import ExecutionStatus, for_model

CELL = re.compile(r"^# ?%%.*\n", re.MULTILINE)
HOLDS = {True: "yes", False: "NO", None: "not claimed"}
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Stateful Jupyter kernels for model-written Python.",
)


@app.command()
def check() -> None:
    """Try here everything that the sandbox claims; exit code 1 when a claim does not hold."""
    console = Console()
    held = isolation()
    console.print(f"isolation: {held} ({held.level})", highlight=False)
    for layer, reason in held.missing.items():
        console.print(f"missing: {layer} ({reason})", highlight=False)
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
    files: Annotated[list[Path], typer.Argument(help="cells, parted by # %%; - is stdin")],
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds a cell")] = 30.0,
) -> None:
    """Run files one after the other in one interpreter and print what a model would be told.

    Exit code 1 when a cell fails, 2 when a file cannot be read.
    """
    cells = [cell for file in files for cell in CELL.split(_text(file)) if cell.strip()]
    if not asyncio.run(_run(cells, timeout)):
        raise typer.Exit(1)


@app.command()
def mcp(
    timeout: Annotated[float, typer.Option(min=0.1, help="most seconds a call")] = 30.0,
    require: Annotated[
        list[str] | None, typer.Option(help="a layer of isolation without which nothing is run")
    ] = None,
) -> None:
    """Serve one stateful Python tool to an MCP client, over stdin and stdout."""
    try:
        from sandbox.tool_server import serve
    except ImportError as error:
        _refuse(f"the MCP SDK is missing ({error}): {sys.executable} -m pip install mcp")
    try:
        layers = TypeAdapter(tuple[Layer, ...]).validate_python(tuple(require or ()))
    except ValidationError:
        _refuse(f"--require is one of {', '.join(get_args(Layer))}")
    try:
        asyncio.run(serve(Limits(spares=1, cell_timeout_s=timeout, require=layers)))
    except IsolationError as error:
        _refuse(str(error))


def _refuse(why: str) -> NoReturn:
    typer.echo(f"error: {why}", err=True)
    raise typer.Exit(2)


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except FileNotFoundError:
        _refuse(f"{file} does not exist")
    except (OSError, UnicodeDecodeError) as error:
        _refuse(f"{file} cannot be read: {error}")


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
    """Run the command and end the process with its exit code; a mistake is one line on stderr and code 2."""
    try:
        code = app(args=argv, prog_name=prog, standalone_mode=False)
    except typer.TyperException as error:
        told = error.format_message()
        typer.echo(told if told.startswith("Usage: ") else f"error: {told}", err=True)
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
