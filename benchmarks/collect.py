"""Labelled prefixes a minute, with and without shared calls: python -m benchmarks.collect [--num 4]

The same problems, seeds and kernels; both ways are taken in turns, and the ratio is the median of the
rounds' own ratios. A prefix counts as often as it was seen, an example is a distinct one. Calls are
shared among the equal calls of a problem, so what is sampled, and what is counted, is the same.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from solver.cli.progress import WorkProgress
from solver.solving.services import Services
from solver.stop.commands.sampling import Job, make_job, problems_of, running, sampler_with
from solver.stop.rollouts.collect import Collected, collect, select
from solver.types import Problem

SILENT = WorkProgress(quiet=True)


async def once(job: Job, problems: list[Problem], services: Services) -> tuple[Collected, float]:
    """One collection into a fresh file, and its seconds; no problem is dropped."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        path = Path(folder) / "rollouts.jsonl"
        sampler = sampler_with(services)
        units = await collect(problems, job.plan, job.header, sampler, path, SILENT)
        seconds = time.perf_counter() - began
    return select(units, job.plan.mark, 0.0, 1.0), seconds


async def measure(arguments: argparse.Namespace) -> None:
    problems = problems_of(arguments.problems, arguments.split, arguments.num, 0, ("stop",), None)
    jobs = {
        share: make_job(
            arguments.model,
            arguments.preset,
            None,
            0,
            arguments.launch,
            None,
            arguments.continuations,
            arguments.in_flight,
            share,
        )
        for share in (False, True)
    }
    rates: dict[bool, list[float]] = {False: [], True: []}
    counts: dict[bool, tuple[float, int]] = {}
    async with running(jobs[False].config, SILENT) as services:
        await once(jobs[True], problems[:1], services)  # warm-up
        for number in range(arguments.rounds):
            for share in (False, True) if number % 2 == 0 else (True, False):
                collected, seconds = await once(jobs[share], problems, services)
                seen = sum(example.weight for example in collected.examples)
                counts[share] = seen, len(collected.examples)
                rates[share].append(60 * seen / seconds)
    mark, launch = jobs[True].plan.mark, arguments.launch
    print(f"{len(problems)} problems x {launch} rollouts, mark {mark}, {arguments.rounds} rounds\n")
    print("| calls | prefixes | examples | labelled prefixes a minute | examples a minute |")
    print("|---|---|---|---|---|")
    for share, name in ((False, "each its own"), (True, "shared")):
        seen, distinct = counts[share]
        rate = median(rates[share])
        print(f"| {name} | {seen:.0f} | {distinct} | {rate:,.0f} | {rate * distinct / seen:,.0f} |")
    ratio = median(b / a for a, b in zip(rates[False], rates[True], strict=True))
    print(f"\nshared calls: {ratio:.2f} times the prefixes a minute")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="embedded", help="model folder, or 'embedded'")
    parser.add_argument("--preset", help="embedded or general; default: by the model")
    parser.add_argument("--problems", type=Path, help="CSV or JSONL with answers")
    parser.add_argument("--num", type=int, default=4, help="problems of the embedded families")
    parser.add_argument("--launch", type=int, default=16)
    parser.add_argument("--continuations", type=int, default=1)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.split = None if arguments.problems else "stop"
    asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
