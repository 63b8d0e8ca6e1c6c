"""Is a report of a large run quick and small? A run is multiplied, then reported:

    python -m benchmarks.report RUN [--problems 10000]

Every problem of RUN is copied under other names until there are enough; the copies' answers are made
wrong in one of ten. Targets for 10,000 problems of 24 trajectories: 60 s, 2 GB, a file of 50 MB.
"""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from solver.files.problems import load_problems
from solver.types import Problem

_EVERY = 10  # of so many copies one has another known answer


def by_problem(journal: Path) -> tuple[str, dict[str, list[str]], str]:
    """The first line, the lines of each problem, and the last line."""
    first, *lines, last = journal.read_text("utf-8").splitlines()
    found: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if name := json.loads(line).get("problem_id"):
            found[name].append(line)
    return first, found, last


def multiply(run: Path, num: int, into: Path) -> None:
    """A run folder with `num` problems, their journals one after the other."""
    first, lines, last = by_problem(run / "journal.jsonl")
    problems = [problem for problem in load_problems(run / "problems.csv") if problem.id in lines]
    with (into / "journal.jsonl").open("w", encoding="utf-8") as journal:
        print(first, file=journal)
        for copy in range(num):
            name = problems[copy % len(problems)].id
            for line in lines[name]:
                print(line.replace(f'"{name}"', f'"{name}-{copy}"', 1), file=journal)
        print(last, file=journal)
    with (into / "problems.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "problem", "answer"))
        writer.writerows(_row(problems[copy % len(problems)], copy) for copy in range(num))


def _row(problem: Problem, copy: int) -> tuple[str, str, int | None]:
    known = problem.answer
    if known is not None and copy % _EVERY == 0:
        known += 1
    return f"{problem.id}-{copy}", problem.statement, known


def main(
    run: Annotated[Path, typer.Argument(help="a finished run folder")],
    problems: Annotated[int, typer.Option(help="how many to make of it")] = 10_000,
) -> None:
    """Multiply a run and time its report, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder)
        multiply(run, problems, into)
        journal, output = into / "journal.jsonl", into / "report.html"
        print(f"journal: {problems:,} problems, {journal.stat().st_size / 1e6:,.0f} MB")
        began = perf_counter()
        subprocess.run([sys.executable, "-m", "solver.report", folder], check=True)
        seconds = perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"report: {seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of a core),"
            f" {used.ru_maxrss / 1e6:.2f} GB, {output.stat().st_size / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    typer.run(main)
