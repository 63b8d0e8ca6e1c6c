"""Are limits kept on the real clock? What the tests hold in virtual time, measured:

    python -m benchmarks.deadlines [--limit 20] [--rounds 3]

For the command under a time limit, for cells that sleep, print or ignore their interrupt beyond a
timeout, and for a pool that closes: the limit, the wall time, what it ran over, and wall / limit.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from sandbox.limits import Limits
from sandbox.pool import KernelPool
from solver.files.problems import load_problems
from solver.files.tables import markdown_table

EXAMPLES = Path(__file__).parents[1] / "examples" / "problems.csv"
LIMITS = Limits(grace_s=0.6, spares=1)
TIMEOUT_S = 1.0
CLOSING_S = 1.0
CELLS = {  # what runs beyond its timeout, and whether an interrupt ends it
    "a cell that sleeps": ("import time; time.sleep(60)", True),
    "a cell that prints for ever": ("while True: print('on', flush=True)", True),
    "a cell that ignores its interrupt": (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        False,
    ),
}

Row = tuple[str, float, list[float]]


def command(limit_s: float, rounds: int) -> Row:
    """The command from its start to its end, with an answer for every problem."""
    walls = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            answers = Path(folder, "a.csv")
            flags = ["--run-dir", str(Path(folder, "run")), "--time-limit", f"{limit_s}s"]
            began = time.monotonic()
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "solver.run",
                    str(EXAMPLES),
                    "--output",
                    str(answers),
                    *flags,
                ],
                check=True,
                capture_output=True,
            )
            walls.append(time.monotonic() - began)
            assert len(answers.read_text("utf-8").splitlines()) == len(load_problems(EXAMPLES)) + 1
    return "the command", limit_s, walls


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
    limit: Annotated[float, typer.Option(help="seconds of the command")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    rows = [command(limit, rounds), *asyncio.run(cells(rounds)), asyncio.run(closing(rounds))]
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
    print("\n".join(markdown_table(head, table)))


if __name__ == "__main__":
    typer.run(main)
