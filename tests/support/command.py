"""The command as users start it, in a process of its own, and what it leaves behind."""

from __future__ import annotations

import contextlib
import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from solver.journal.events import Sampled, Solved
from solver.journal.reader import read_journal
from tests.support.processes import lives

EXAMPLES = Path(__file__).parents[2] / "examples" / "problems.csv"


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "solver.run", *map(str, args)]


def run(*args: object, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args), capture_output=True, text=True, timeout=timeout, check=False
    )


@contextlib.contextmanager
def started(*args: object) -> Iterator[subprocess.Popen[str]]:
    """A run in the background, with its output piped."""
    with subprocess.Popen(
        command(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_solved(folder: Path, num: int, process: subprocess.Popen[str]) -> None:
    """Until the journal in `folder` has `num` solved problems."""
    journal = folder / "journal.jsonl"
    for _ in range(4000):
        assert process.poll() is None, process.communicate()
        if journal.exists() and journal.read_text("utf-8").count('"type":"solved"') >= num:
            return
        time.sleep(0.1)
    raise AssertionError("nothing was solved within 400 seconds")


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process], timeout: float = 5) -> None:
    _, alive = psutil.wait_procs(processes, timeout=timeout)
    assert not list(filter(lives, alive))


def some_problems(folder: Path, num: int) -> Path:
    """The first `num` examples in a file of their own."""
    path = folder / "some.csv"
    path.write_text("".join(EXAMPLES.read_text("utf-8").splitlines(keepends=True)[: num + 1]))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def solved(folder: Path) -> list[Solved]:
    """Every answer in a run folder's journal, in order."""
    events = read_journal(folder / "journal.jsonl").events
    return [event for event in events if isinstance(event, Solved)]


def tokens(folder: Path) -> dict[tuple[str, int], list[int]]:
    """What each trajectory of a run folder sampled, in order."""
    sampled: dict[tuple[str, int], list[int]] = {}
    for event in read_journal(folder / "journal.jsonl").events:
        if isinstance(event, Sampled):
            sampled.setdefault((event.problem_id, event.index), []).extend(event.token_ids)
    return sampled
