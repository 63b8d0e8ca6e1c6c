"""A run's output on the terminal: errors on stderr, results on stdout."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from solver.cli import app
from solver.cli.consoles import LastingConsole
from solver.clock import MonotonicClock
from solver.journal.summary import Summary
from solver.runs.folder import RunFolder
from solver.runs.progress import printable
from solver.types import DegradationKind


class RunConsole(LastingConsole):
    """Standard output, which shows what it is given as it is."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet, highlight=False, emoji=False, markup=False)


def print_error(message: str) -> None:
    """Print one line on stderr, without control characters."""
    app.print_error(printable(message, 500))


def print_results(run: RunFolder, summary: Summary) -> None:
    """Print the score, its cost and the paths of the files."""
    screen = RunConsole(quiet=False)
    for line in _result_lines(run, summary):
        screen.print(line, soft_wrap=True)


def print_report(run: RunFolder, started_at: float) -> None:
    """Write a report if there is time left, and print where it is, or how to get it."""
    from solver.report.afterwards import report_line

    limit = run.config.budget.time_limit_s
    deadline = inf if limit is None else started_at + limit
    line = report_line(run.path, deadline - MonotonicClock().now())
    RunConsole(quiet=False).print(printable(line, 500), soft_wrap=True)


def _result_lines(run: RunFolder, summary: Summary) -> Iterator[str]:
    if summary.accuracy is not None and summary.accuracy_interval is not None:
        low, high = summary.accuracy_interval
        yield (
            f"score: {summary.num_correct} of {summary.num_graded} right"
            f" ({summary.accuracy:.1%}, 95% interval {low:.1%} to {high:.1%})"
        )
    yield (
        f"tokens: {summary.sampled_tokens:,} sampled in {summary.elapsed_s:.1f} s"
        f" ({summary.tokens_per_s:,.0f} a second)"
    )
    if summary.asked:
        right = f", {summary.asked_correct} right" if summary.num_graded else ""
        yield (
            f"asked again: {summary.asked} trajectories that ended without an answer;"
            f" {summary.asked_answered} gave one{right}"
        )
    if summary.degraded:
        yield f"degraded: {len(summary.degraded)} of {summary.num_problems} answers"
    yield f"isolation: {summary.isolation}"
    yield f"run folder: {run.path}"
    yield f"answers: {run.output}"
    if DegradationKind.UNFAMILIAR in summary.degraded_by_kind:
        yield "some problems are outside of what the embedded model knows: use --model PATH"
    if summary.interrupted:
        yield f"interrupted: go on with --resume {run.path}"
