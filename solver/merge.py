"""`python -m solver.merge FOLDER...`: finished runs of one job as one run folder.

Mistakes of the user are one line on stderr and exit code 2; nothing is written then.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from solver.cli.app import run_app
from solver.runs.console import print_error, print_results

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    return run_app(app, argv, prog=prog, say=print_error)


@app.command()
def merge(
    folders: Annotated[
        list[Path], typer.Argument(readable=False, help="run folders, such as runs/big/*")
    ],
    run_dir: Annotated[Path | None, typer.Option(help="the merged folder  [runs/<id>]")] = None,
    output: Annotated[Path, typer.Option(readable=False, help="answers file")] = Path(
        "answers.csv"
    ),
    force: Annotated[bool, typer.Option("--force", help="replace the answers file")] = False,
) -> None:
    """Put finished runs (the shards of a job) together: one journal, one file of answers, one score."""
    from solver.runs.merging import merge_runs

    run, summary = merge_runs(folders, run_dir, output, force=force, on_failure=print_error)
    print_results(run, summary)


if __name__ == "__main__":
    sys.exit(main())
