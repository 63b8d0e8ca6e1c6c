"""Public problem sets in parts, as docs/results has them: python -m benchmarks.public_problems FILE --out DIR

Each FILE, such as svamp_test.jsonl, becomes four: svamp.pilot, svamp.train, svamp.validation and svamp.test,
each .jsonl. Which one a problem is in depends on the SHA-256 of its statement only, and so does the order
within a part: its first so many problems are a random choice. A statement that an earlier file or line had
is left out. Problems whose answer is no integer are left out too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from solver.cli.app import run_app
from solver.files.problems import read_problems, write_problems
from solver.stop.evaluation.published import statement_digest
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


@app.command(epilog="Example: python -m benchmarks.public_problems svamp_test.jsonl --out parts")
def split(
    files: Annotated[list[Path], typer.Argument(help="problem files with answers")],
    out: Annotated[Path, typer.Option(help="folder to write to")],
) -> None:
    """Split public problem sets by the hash of their statements."""
    out.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    for path in files:
        name = path.name.partition("_")[0].partition(".")[0]
        parts: dict[str, list[tuple[str, Problem]]] = {part: [] for part in PARTS}
        for problem in read_problems(path).problems:
            digest = statement_digest(problem.statement)
            if problem.answer is not None and digest not in seen:
                parts[part_of(digest)].append((digest, problem))
            seen.add(digest)
        for part, found in parts.items():
            target = out / f"{name}.{part}.jsonl"
            write_problems(target, (p for _, p in sorted(found, key=lambda pair: pair[0])))
            typer.echo(f"{target}: {len(found)} problems")


if __name__ == "__main__":
    sys.exit(run_app(app, None))
