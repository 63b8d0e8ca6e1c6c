"""What the suites of submissions share: the scripted worker, problems, settings, and a rehearsal's plan."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from submissions.competitions import competition
from submissions.rehearsal import Plan

WORKER = (sys.executable, str(Path(__file__).parents[1] / "submissions" / "scripted_worker.py"))
SMALL = (
    "prune.launch=4",
    "prune.keep=2",
    "prune.mark=3",
    "prune.scorer='confidence'",
    "sampling.max_tokens=40",
)
AIMO3 = competition("aimo3")


def problems_file(path: Path, answers: Iterable[int]) -> Path:
    """Problems whose answer is the last number of their statement."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "problem", "answer"))
        writer.writerows((f"p{i}", f"What is {a}?", a) for i, a in enumerate(answers))
    return path


def plan(tmp_path: Path, problems: Path, **changes: object) -> Plan:
    """A dry run of the module on the scripted worker."""
    fields: dict[str, object] = {
        "problems": problems,
        "competition": AIMO3,
        "limit_s": 30.0,
        "out": tmp_path / "out",
        "sets": SMALL,
        "worker": WORKER,
        "least_silence_s": 1.5,
        **changes,
    }
    return Plan(**fields)  # type: ignore[arg-type]


def processes_of(folder: Path) -> list[str]:
    """Living processes that were told of `folder` on their command line or run in it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join((*process.cmdline(), process.cwd()))
            if str(folder) in words and process.status() != psutil.STATUS_ZOMBIE:
                found.append(words)
        except psutil.Error:
            continue
    return found


def wait_until(condition, seconds: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    """Poll for something that happens in another process."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it never happened"
        time.sleep(0.02)
