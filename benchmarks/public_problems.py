"""Public problem sets in parts, as docs/results has them: python -m benchmarks.public_problems FILE --out DIR

Each FILE, such as svamp_test.jsonl, becomes four: svamp.pilot, svamp.train, svamp.validation and svamp.test,
each .jsonl. Which one a problem is in depends on the SHA-256 of its statement only, and so does the order
within a part: its first so many problems are a random choice. A statement that an earlier file or line had
is left out. Problems whose answer is no integer are left out too. Sets are often made of variants of fewer
problems: `--apart` keeps variants of test problems out of the other parts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from solver.cli.app import run_app
from solver.files.problems import read_problems, write_problems
from solver.policy.similarity import Shingle, jaccard, shingles
from solver.stop.rollouts.rollout import statement_digest
from solver.types import Problem

# The share of the problems, in hundredths. The pilot is what settings are chosen on.
PARTS = {"pilot": 5, "test": 17, "validation": 10, "train": 68}

app = typer.Typer(add_completion=False)


def part_of(digest: str) -> str:
    """The part of a problem whose statement has this SHA-256 (hex)."""
    place = int(digest[:8], 16) % 100
    for part, share in PARTS.items():
        if place < share:
            return part
        place -= share
    raise AssertionError("the parts are all hundredths")


def words(statement: str) -> frozenset[Shingle]:
    """Every run of three words of it, letters only: numbers are what variants differ in."""
    return shingles(re.findall("[a-z]+", statement.lower()), 3)


@app.command(epilog="Example: python -m benchmarks.public_problems svamp_test.jsonl --out parts")
def split(
    files: Annotated[list[Path], typer.Argument(help="problem files with answers")],
    out: Annotated[Path, typer.Option(help="folder to write to")],
    apart: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1,
            help="leave out of the other parts what has this much in common with a test problem: the"
            " share (Jaccard) of their runs of three words; 0.3 leaves few variants",
        ),
    ] = None,
) -> None:
    """Split public problem sets by the hash of their statements."""
    out.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    sets: dict[str, dict[str, list[tuple[str, Problem]]]] = {}
    for path in files:
        name = path.name.partition("_")[0].partition(".")[0]
        parts = sets.setdefault(name, {part: [] for part in PARTS})
        for problem in read_problems(path).problems:
            digest = statement_digest(problem.statement)
            if problem.answer is not None and digest not in seen:
                parts[part_of(digest)].append((digest, problem))
            seen.add(digest)
    tested = [words(problem.statement) for parts in sets.values() for _, problem in parts["test"]]
    for name, parts in sets.items():
        for part, found in parts.items():
            if apart is not None and part != "test":
                found = [pair for pair in found if _nearest(pair[1], tested) < apart]
            target = out / f"{name}.{part}.jsonl"
            write_problems(target, (p for _, p in sorted(found, key=lambda pair: pair[0])))
            typer.echo(f"{target}: {len(found)} problems")


def _nearest(problem: Problem, tested: Sequence[frozenset[Shingle]]) -> float:
    """How much the problem has in common with the test problem that is most like it."""
    ours = words(problem.statement)
    return max((jaccard(ours, theirs) for theirs in tested), default=0.0)


if __name__ == "__main__":
    sys.exit(run_app(app, None))
