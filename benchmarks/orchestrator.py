"""Does the solver keep its engine busy? Both sides from one run:

    python -m benchmarks.orchestrator [--num 10]

For each problem, the share of its wall time, outside tool calls, in which the engine had rows to
decode (target: at least 90 %); and the solver's sampled tokens a second while the engine was busy,
against a bare client that keeps the same number of streams open on the same engine.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import aclosing
from pathlib import Path
from statistics import mean, median

import typer

from solver import build
from solver.events import Event, Executed, ProblemStarted, Sampled, Solved
from solver.policy.seeds import trajectory_seed
from solver.problems import load_problems
from solver.services import Services
from solver.session import run_session
from solver.settings import load_config
from solver.types import Problem, SamplingParams

EXAMPLES = Path(__file__).parents[1] / "examples" / "problems.csv"
Interval = tuple[float, float]


def covered(intervals: list[Interval]) -> list[Interval]:
    """Overlapping intervals merged, in order."""
    merged: list[Interval] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def length(intervals: list[Interval]) -> float:
    """Seconds that are covered."""
    return sum(end - begin for begin, end in covered(intervals))


def busy_shares(events: list[Event]) -> dict[str, float]:
    """By problem: time with rows to decode, over wall time less the time with tool calls alone."""
    sampled: dict[str, list[Interval]] = defaultdict(list)
    executed: dict[str, list[Interval]] = defaultdict(list)
    began = {e.problem_id: e.t for e in events if isinstance(e, ProblemStarted)}
    shares = {}
    for event in events:
        if isinstance(event, Sampled):
            sampled[event.problem_id].append((event.started, event.t))
        elif isinstance(event, Executed):
            executed[event.problem_id].append((event.started, event.t))
        elif isinstance(event, Solved):
            name = event.problem_id
            busy = length(sampled[name])
            tools_alone = length(sampled[name] + executed[name]) - busy
            shares[name] = busy / (event.t - began[name] - tools_alone)
    return shares


async def bare(services: Services, problems: list[Problem], num_tokens: int) -> float:
    """Tokens a second of a client that keeps `launch` streams of `num_tokens` busy, nothing else."""
    launch = services.config.prune.launch

    async def stream(problem: Problem, index: int) -> int:
        params = SamplingParams(
            max_tokens=num_tokens,
            seed=trajectory_seed(99, problem.id, index),
            banned_token_ids=services.dialect.banned_token_ids | services.dialect.stop_token_ids,
        )
        name, got = f"bare-{problem.id}#{index}", 0
        prompt = services.dialect.prompt(problem.statement)
        async with aclosing(services.engine.generate(name, prompt, params)) as chunks:
            async for chunk in chunks:
                got += len(chunk.token_ids)
        await services.engine.release(name)
        return got

    began = time.perf_counter()
    total = 0
    for problem in problems:
        total += sum(await asyncio.gather(*(stream(problem, i) for i in range(launch))))
    return total / (time.perf_counter() - began)


async def measure(num: int) -> None:
    config = load_config(sets=["prune.scorer=none"])
    problems = load_problems(EXAMPLES)[:num]
    events: list[Event] = []
    async with build.services(
        config, record=events.append, started_at=time.monotonic(), stopping=asyncio.Event()
    ) as services:
        await run_session(problems[:1], services, solved={})  # warm-up
        events.clear()
        before = await bare(services, problems, num_tokens=150)
        await run_session(problems, services, solved={})
        after = await bare(services, problems, num_tokens=150)
    shares = sorted(busy_shares(events).values())
    sampled = [e for e in events if isinstance(e, Sampled)]
    busy = sum(
        length([(e.started, e.t) for e in sampled if e.problem_id == p.id]) for p in problems
    )
    ours = sum(len(e.token_ids) for e in sampled) / busy
    client = mean([before, after])
    print(f"engine busy outside tool calls: median {median(shares):.1%}, least {shares[0]:.1%}")
    print(
        f"solver {ours:,.0f} tok/s while busy, bare client {client:,.0f}: ratio {ours / client:.2f}"
    )


def main(num: int = 10) -> None:
    asyncio.run(measure(num))


if __name__ == "__main__":
    typer.run(main)
