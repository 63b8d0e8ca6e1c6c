"""The report that a run leaves in its folder when it ends: quick, and never the run's undoing."""

from __future__ import annotations

from pathlib import Path

from solver.cli.python import python
from solver.errors import SolverError, named

_BYTES_PER_S = 15e6  # of a journal, on a busy core; see docs/report.md
_START_S = 0.5
_LONGEST_S = 30.0  # nobody who waits for a prompt waits longer


def report_line(folder: Path, seconds_left: float) -> str:
    """Write `folder/report.html` and say where it is, or how to get it if there is no time for it."""
    output = folder / "report.html"
    try:
        needed_s = _START_S + (folder / "journal.jsonl").stat().st_size / _BYTES_PER_S
        if needed_s > min(seconds_left, _LONGEST_S):
            return f"report: {python()} -m solver.report {folder}"
        from solver.report.page import write_report
        from solver.report.source import RunSource

        write_report([RunSource(folder)], output)
    except SolverError as error:
        return f"report: none, {error}"
    except Exception as error:  # the boundary: the answers are written, and must not look lost
        return f"report: none, {named(error)}"
    return f"report: {output}"
