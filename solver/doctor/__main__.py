"""`python -m solver.doctor`: a table of checks of this machine, and what to do about those that fail.

Exit code 0 if a run can start, 1 if something fails, 2 for flags and settings that make no sense.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from solver.cli.app import EXIT_FAILED, quiet_libraries, run_app
from solver.cli.consoles import wide_console
from solver.cli.progress import WorkProgress
from solver.doctor.finding import Finding, Status
from solver.runs.settings import load_config

_STYLE = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def doctor(
    preset: Annotated[str | None, typer.Option(help="preset of the run")] = None,
    model: Annotated[str | None, typer.Option(help="folder or GGUF file of a local model")] = None,
    engine: Annotated[str | None, typer.Option(help="transformers or vllm")] = None,
    config: Annotated[
        Path | None, typer.Option(readable=False, help="settings, .toml or .json")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="any setting: section.key=value")
    ] = None,
    wheelhouse: Annotated[
        Path | None, typer.Option(readable=False, help="a folder of wheels to check")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="also load the model and solve a small problem")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> int:
    """Check this machine for a run: Python, packages, memory, GPU, kernels, model, vLLM, wheels."""
    flags = {"model.path": model, "model.engine": engine}
    given = {key: value for key, value in flags.items() if value is not None}
    settings = load_config(preset, config, sets or (), given)
    from solver.doctor.examination import examine

    with WorkProgress(quiet=False) as progress:
        findings = list(
            examine(
                settings,
                wheelhouse,
                lambda name: progress.report(f"checking: {name}"),
                deep=deep,
            )
        )
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show(findings)
    return EXIT_FAILED if any(f.status is Status.FAIL for f in findings) else 0


def _show(findings: Sequence[Finding]) -> None:
    table = Table("check", "", "found", "what to do")
    for finding in findings:
        status = f"[{_STYLE[finding.status]}]{finding.status}[/]"
        table.add_row(finding.name, status, escape(finding.found), escape(finding.advice))
    console = wide_console()
    console.print(table)
    bad = sum(finding.status is Status.FAIL for finding in findings)
    console.print(f"{bad} of {len(findings)} checks fail" if bad else "fit for a run")


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command; mistakes of the user are one line and exit code 2."""
    with quiet_libraries():
        return run_app(app, argv, prog=prog)


if __name__ == "__main__":
    sys.exit(main())
