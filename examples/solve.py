"""Three problems from Python: `python examples/solve.py`, after `make demo`.

The embedded model knows twelve families of problems. For others give `load_config` a model of yours:
`load_config(sets=["model.path=/path/to/folder"])`.
"""

import asyncio
import csv
from pathlib import Path

from solver import Problem, Solver, load_config


async def main() -> None:
    """Solve one problem by its statement, and two more side by side."""
    with Path(__file__).with_name("problems.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:3]
    first, *others = [Problem(row["id"], row["problem"], int(row["answer"])) for row in rows]

    config = load_config(sets=["seed=5", "budget.problems_at_once=2"])
    async with Solver(config) as solver:
        result = await solver.solve(first.statement)
        print(
            f"{result.answer}, by {result.votes.get(result.answer, 0)} of {result.num_votes} votes"
        )
        async for result in solver.solve_many(others):
            verdict = "right" if result.right else "wrong"
            print(f"{result.problem.id}: {result.answer}, {verdict}, {result.elapsed_s:.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
