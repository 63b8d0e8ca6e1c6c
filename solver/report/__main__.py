"""`python -m solver.report RUN`: write the report of a run, compare two runs, or serve one live."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from solver.cli.app import run_app
from solver.errors import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    return run_app(app, argv, prog=prog)


@app.command()
def report(
    run: Annotated[Path | None, typer.Argument(help="run folder")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="two run folders, side by side")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="file  [RUN/report.html, or compare.html]")
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="serve it live on this machine")] = False,
    port: Annotated[
        int | None, typer.Option(help="of --serve  [any free one]", min=0, max=65535)
    ] = None,
) -> None:
    """One self-contained HTML file: the score, every problem, every trajectory."""
    from solver.report.page import MARKER, write_report
    from solver.report.serve import ReportServer
    from solver.report.source import RunSource

    if (run is None) == (compare is None):
        raise InputError("give one run folder, or --compare and two")
    folders = list(compare or ()) + ([run] if run else [])
    if serve:
        if output is not None:
            raise InputError("--serve writes no file; leave out --output")
        with ReportServer(folders, port or 0) as server:
            print(f"report: {server.url} (Ctrl-C ends it)", flush=True)
            server.wait()
        return
    if port is not None:
        raise InputError("--port is of --serve: give it too")
    output = output or (Path("compare.html") if compare else folders[0] / "report.html")
    if output.is_dir():
        raise InputError(f"{output} is a folder; give --output the name of a file")
    if output.exists() and MARKER not in _opening(output):
        raise InputError(f"{output} exists and is no report; give --output another name")
    write_report([RunSource(folder) for folder in folders], output)
    print(f"report: {output}")


def _opening(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(200).decode(errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
