"""Are limits kept on the real clock, and what is made of the time? What tests hold in virtual time, measured:

    python -m benchmarks.deadlines [--limits 5,10,20,60] [--loops 0,3] [--rounds 1]

The command under time limits, on a quiet machine and beside busy loops: what it ran over, its start-up (to
the first problem) and its end (after the last answer), how many problems were answered by vote and how many
right, against an oracle that knows the speed: it answers the problems in their order, each by one
trajectory, in the time that a run with one trajectory and no limit took for it beside the same loops. Then
cells that sleep, print or ignore their interrupt beyond a timeout, and a pool that closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from sandbox.limits import Limits
from sandbox.pool import KernelPool
from solver.clock import MonotonicClock
from solver.files.problems import load_problems
from solver.files.tables import markdown_table
from solver.journal.history import RunHistory
from solver.journal.reader import JournalReader
from solver.journal.summary import is_correct

EXAMPLES = Path(__file__).parents[1] / "examples" / "problems.csv"
LIMITS = Limits(grace_s=0.6, spares=1)
TIMEOUT_S = 1.0
CLOSING_S = 1.0
ONE_TRAJECTORY = ("--launch", "1", "--keep", "1", "--scorer", "none")
CELLS = {  # what runs beyond its timeout, and whether an interrupt ends it
    "a cell that sleeps": ("import time; time.sleep(60)", True),
    "a cell that prints for ever": ("while True: print('on', flush=True)", True),
    "a cell that ignores its interrupt": (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        False,
    ),
}

Row = tuple[str, float, list[float]]


@dataclass(frozen=True)
class Measured:
    """A run of the command: its wall seconds, and when its first problem began and its last was answered.

    `took` are the seconds of the problems that were answered by vote, `right` says which of them are.
    """

    wall_s: float
    first_s: float
    last_s: float
    took: list[float]
    right: list[bool]

    @property
    def end_s(self) -> float:
        """From the last answer to the end of the process."""
        return self.wall_s - self.last_s


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def command(*flags: str) -> Measured:
    """The command on the examples, from its start to its end, with an answer for every problem."""
    with tempfile.TemporaryDirectory() as folder:
        answers, run = Path(folder, "a.csv"), Path(folder, "run")
        line = [sys.executable, "-m", "solver.run", str(EXAMPLES), "--output", str(answers)]
        began = MonotonicClock().now()
        subprocess.run([*line, "--run-dir", str(run), *flags], check=True, capture_output=True)
        wall_s = MonotonicClock().now() - began
        problems = {problem.id: problem for problem in load_problems(EXAMPLES)}
        assert len(answers.read_text("utf-8").splitlines()) == len(problems) + 1
        history = RunHistory()
        history.read(JournalReader(run / "journal.jsonl"))
    assert history.start is not None
    solved = [one.solved for one in history.problems.values() if one.solved is not None]
    voted = [answer for answer in solved if answer.num_votes]
    return Measured(
        wall_s,
        history.start.t,
        max(answer.t for answer in solved),
        [answer.elapsed_s for answer in voted],
        [is_correct(answer.answer, problems[answer.problem_id], None) for answer in voted],
    )


def oracle(limit_s: float, reference: Measured) -> tuple[int, int]:
    """How many problems one trajectory each can answer, if their times are known, and how many right."""
    left_s, served, right = limit_s - reference.first_s, 0, 0
    for seconds, is_right in zip(reference.took, reference.right, strict=True):
        left_s -= seconds
        served += left_s >= 0
        right += left_s >= 0 and is_right
    return served, right


def limits_table(limits: Sequence[float], loops: Sequence[int], rounds: int) -> list[list[str]]:
    """A row for each limit beside each number of busy loops; medians, and the longest overrun."""
    rows = []
    for num in loops:
        with busy(num):
            reference = command(*ONE_TRAJECTORY)
            for limit_s in limits:
                runs = [command("--time-limit", f"{limit_s}s") for _ in range(rounds)]
                voted = median(len(run.took) for run in runs)
                right = median(sum(run.right) for run in runs)
                could, could_right = oracle(limit_s, reference)
                rows.append(
                    [
                        f"{limit_s:g} s",
                        str(num),
                        f"{max(run.wall_s for run in runs) - limit_s:+.2f} s",
                        f"{median(run.first_s for run in runs):.2f} s",
                        f"{median(run.end_s for run in runs):.2f} s",
                        f"{voted:g}",
                        str(could),
                        f"{voted / could:.2f}" if could else "",
                        f"{right:g}",
                        str(could_right),
                    ]
                )
    return rows


async def cells(rounds: int) -> list[Row]:
    """Cells beyond their timeout; those that do not yield are killed after the grace."""
    rows: list[Row] = []
    async with KernelPool(LIMITS) as pool:
        for name, (code, yields) in CELLS.items():
            walls = []
            for _ in range(rounds):
                async with pool.lease() as sandbox:
                    await sandbox.execute("1", 60)  # the start of a kernel is not what is measured
                    began = time.monotonic()
                    await sandbox.execute(code, TIMEOUT_S)
                    walls.append(time.monotonic() - began)
            rows.append((name, TIMEOUT_S + (0 if yields else LIMITS.grace_s), walls))
    return rows


async def closing(rounds: int) -> Row:
    """A pool with six spare kernels, from the call of `aclose` to its return."""
    walls = []
    for _ in range(rounds):
        async with KernelPool(Limits(spares=6, start_concurrency=3)) as pool:
            async with pool.lease() as sandbox:
                await sandbox.execute("1", 60)
            began = time.monotonic()
            await pool.aclose()
            walls.append(time.monotonic() - began)
    return "closing a pool", CLOSING_S, walls


def main(
    limits: Annotated[str, typer.Option(help="seconds of the command")] = "5,10,20,60",
    loops: Annotated[str, typer.Option(help="busy loops beside it")] = "0,3",
    rounds: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    head = [
        "limit",
        "busy loops",
        "overrun",
        "start-up",
        "end",
        "by vote",
        "oracle",
        "ratio",
        "right",
        "oracle right",
    ]
    table = limits_table(
        [float(text) for text in limits.split(",")],
        [int(text) for text in loops.split(",")],
        rounds,
    )
    print("\n".join(markdown_table(head, table)), flush=True)

    rows = [*asyncio.run(cells(rounds)), asyncio.run(closing(rounds))]
    table = [
        [
            name,
            f"{limit_s:.2f} s",
            f"{median(walls):.2f} s",
            f"{max(walls):.2f} s",
            f"{max(walls) - limit_s:+.2f} s",
            f"{max(walls) / limit_s:.2f}",
        ]
        for name, limit_s, walls in rows
    ]
    head = ["", "limit", "median wall", "longest", "overrun", "longest / limit"]
    print("\n" + "\n".join(markdown_table(head, table)))


if __name__ == "__main__":
    typer.run(main)
