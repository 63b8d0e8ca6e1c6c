"""Does the solver keep its engine busy? Both sides from one run:

    python -m benchmarks.orchestrator [--engine vllm] [--num 10] [--at-once 1 --at-once 4] [--layers 48]
    python -m benchmarks.orchestrator --model FILE.gguf --preset NAME --problems FILE.csv

For each problem, the share of its wall time, outside tool calls, in which the engine had rows to
decode (target: at least 90 %); and the sampled tokens a second of the whole solver, one problem at a
time and several at once, against a bare client that keeps `launch` streams busy on the same engine
and does nothing else (target on vLLM and with a real model: at least 0.9). `--layers` makes the model as
slow as a larger one: the embedded one is so small that kernels and HTTP take longer than its steps, which
is so for no real model. `--at-once` is 1, 2 and 4 if it is not given, with another preset what that says.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections import defaultdict
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file, save_file

from solver import build
from solver.embedded.paths import WEIGHTS
from solver.files.problems import load_problems
from solver.journal.events import Event, Executed, ProblemStarted, Sampled, Solved
from solver.policy.seeds import trajectory_seed
from solver.runs.settings import load_config
from solver.solving.services import Services
from solver.solving.session import run_session
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
    """Tokens a second of a client that only samples `launch` streams of `num_tokens` ids."""
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


def tokens_of(events: list[Event]) -> int:
    """Sampled tokens."""
    return sum(len(event.token_ids) for event in events if isinstance(event, Sampled))


async def solve(services: Services, problems: list[Problem], events: list[Event]) -> float:
    """Tokens a second of wall time of the whole solver: tool calls, checks and votes included."""
    events.clear()
    began = time.perf_counter()
    await run_session(problems, services, solved={})
    return tokens_of(events) / (time.perf_counter() - began)


def deepened(folder: Path, num_layers: int) -> Path:
    """The embedded model with added layers of zero output: the same tokens at a bigger model's cost."""
    shutil.copytree(WEIGHTS, folder)
    settings = json.loads((folder / "config.json").read_text())
    before, width = settings["num_hidden_layers"], settings["hidden_size"]
    tensors = load_file(WEIGHTS / "model.safetensors")
    copied = {k: v for k, v in tensors.items() if k.startswith("model.layers.0.")}
    for layer in range(before, num_layers):
        for name, tensor in copied.items():
            silent = name.endswith(("o_proj.weight", "down_proj.weight"))
            value = torch.zeros_like(tensor) if silent else tensor.clone()
            tensors[name.replace("layers.0.", f"layers.{layer}.")] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings["num_hidden_layers"] = num_layers
    (folder / "config.json").write_text(json.dumps(settings))
    print(f"a model of {num_layers} layers instead of {before}, {width} wide")
    return folder


async def measure(
    settings: dict[str, object],
    preset: str,
    problems: list[Problem],
    at_once: list[int],
    layers: int | None,
    num_tokens: int,
) -> None:
    if layers is not None:  # another model than the adapter's
        folder = deepened(Path(tempfile.mkdtemp()) / "model", layers)
        settings |= {"model.path": str(folder), "prune.scorer": "confidence"}
    config = load_config(preset, overrides=settings)
    at_once = at_once or ([config.budget.problems_at_once] if preset != "embedded" else [1, 2, 4])
    events: list[Event] = []
    async with build.services(
        config, record=events.append, started_at=time.monotonic(), stopping=asyncio.Event()
    ) as services:
        await run_session(problems[:1], services, solved={})  # warm-up
        client = [await bare(services, problems, num_tokens)]
        rates = {}
        for together in at_once:
            budget = config.budget.model_copy(update={"problems_at_once": together})
            as_told = replace(services, config=config.model_copy(update={"budget": budget}))
            rates[together] = await solve(as_told, problems, events)
            if together == 1:
                shares = sorted(busy_shares(events).values())
                print(
                    "engine busy outside tool calls:"
                    f" median {median(shares):.1%}, least {shares[0]:.1%}"
                )
            client.append(await bare(services, problems, num_tokens))
    base = mean(client)
    print(f"bare client, {config.prune.launch} streams: {base:,.0f} tok/s")
    for together, rate in rates.items():
        print(f"solver, {together} problems at once: {rate:,.0f} tok/s, ratio {rate / base:.2f}")


def main(
    engine: str = "transformers",
    model: str | None = None,
    preset: str = "embedded",
    problems: Path = EXAMPLES,
    num: int = 10,
    at_once: Annotated[list[int] | None, typer.Option()] = None,
    layers: int | None = None,
    num_tokens: int = 150,
) -> None:
    settings: dict[str, object] = {"model.engine": engine}
    if model is not None:
        settings["model.path"] = model
    asked = load_problems(problems)[:num]
    asyncio.run(measure(settings, preset, asked, at_once or [], layers, num_tokens))


if __name__ == "__main__":
    typer.run(main)
