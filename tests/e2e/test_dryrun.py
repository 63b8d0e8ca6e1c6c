"""A rehearsal for real: the embedded model, real kernels, the command as users start it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from solver.journal.events import RunResumed, Solved
from solver.journal.reader import read_journal
from tests.support.submissions import processes_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "problems.csv"


def test_a_rehearsal_with_a_crash_answers_every_row(tmp_path: Path) -> None:
    problems = tmp_path / "some.csv"
    problems.write_text("".join(EXAMPLES.read_text("utf-8").splitlines(keepends=True)[:6]))
    run = subprocess.run(
        [sys.executable, "-m", "submissions.dryrun", problems, "--limit", "40m", "--speed", "10",
         "--runs", "1", "--order", "fixed", "--inject", "crash@2", "--out", tmp_path / "out"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "solver lost: crashed" in run.stdout
    assert "the file is valid" in run.stdout
    match = re.search(r"score of 1 run: (\d)\.0 of 5", run.stdout)
    assert match is not None and int(match[1]) >= 3, run.stdout
    journal = read_journal(tmp_path / "out/run-1/working/stop-solver-run/journal.jsonl")
    assert len([e for e in journal.events if isinstance(e, RunResumed)]) == 1
    assert len({e.problem_id for e in journal.events if isinstance(e, Solved)}) == 5
    assert processes_of(tmp_path) == []
