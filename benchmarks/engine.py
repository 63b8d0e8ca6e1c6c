"""The in-process engine against `model.generate`: python -m benchmarks.engine [--model FOLDER]

Same model, prompts, lengths and sampling; repeats are interleaved, the numbers are medians, the ratio
is the median of the repeats' own ratios. Only sampled tokens count.

In the ragged case prompts are 16 to 160 tokens and rows end after a quarter to all of the new
tokens; ours also pauses every row at a mark, probes it, appends 5 to 200 tool tokens and resumes.
Left-padded `generate` samples the same rows without any of that, until the longest one ends. The
case "no ends" is the same with rows that all end together, so that `generate` wastes no step and
ours still carries the tool tokens; it has no target. Memory is the growth of the peak over the
loaded model, each count of trajectories in a fresh process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import psutil
import torch

from benchmarks.tiny import tiny_model
from solver.config import ModelConfig
from solver.engines.loading import load_model
from solver.engines.transformers import TransformersEngine
from solver.types import SamplingParams

TEMPERATURE, TOP_P = 1.0, 0.95


@dataclass(frozen=True)
class Row:
    """One trajectory of a scenario."""

    prompt: list[int]
    new: int
    mark: int | None = None  # sampled ids before the pause; None: neither pause nor tool nor probe
    tool: tuple[int, ...] = ()


def uniform_rows(count: int, vocab: int, *, prompt: int, new: int) -> list[Row]:
    draw = random.Random(count)
    return [Row([draw.randrange(vocab) for _ in range(prompt)], new) for _ in range(count)]


def ragged_rows(count: int, vocab: int, *, new: int, ends: bool) -> list[Row]:
    draw = random.Random(1)
    ids = [draw.randrange(vocab) for _ in range(1000)]
    return [
        Row(
            prompt=draw.sample(ids, draw.randint(16, 160)),
            new=draw.randint(new // 4, new) if ends else new,
            mark=new // 8,
            tool=tuple(draw.sample(ids, draw.randint(5, 200))),
        )
        for _ in range(count)
    ]


async def sample(engine: TransformersEngine, name: str, ids: list[int], new: int) -> list[int]:
    params = SamplingParams(new, seed=int(name), temperature=TEMPERATURE, top_p=TOP_P)
    return [
        token async for chunk in engine.generate(name, ids, params) for token in chunk.token_ids
    ]


async def run_row(engine: TransformersEngine, name: str, row: Row) -> int:
    if row.mark is None:
        return len(await sample(engine, name, row.prompt, row.new))
    first = await sample(engine, name, row.prompt, row.mark)
    ids = row.prompt + first
    await engine.probe([(name, ids)], [1, 2, 3, 4])
    return len(first) + len(await sample(engine, name, [*ids, *row.tool], row.new - row.mark))


async def ours(model: Any, rows: list[Row]) -> float:
    """Sampled tokens a second."""
    async with TransformersEngine(model) as engine:
        started = time.perf_counter()
        counts = await asyncio.gather(
            *(run_row(engine, str(number), row) for number, row in enumerate(rows))
        )
        elapsed = time.perf_counter() - started
    assert counts == [row.new for row in rows]
    return sum(counts) / elapsed


def theirs(model: Any, rows: list[Row]) -> float:
    """Sampled tokens a second of one `generate` call, left-padded."""
    longest = max(len(row.prompt) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row.prompt)) + row.prompt for row in rows])
    mask = torch.tensor([[0] * (longest - len(r.prompt)) + [1] * len(r.prompt) for r in rows])
    ids, mask = ids.to(model.device), mask.to(model.device)
    new = max(row.new for row in rows)
    started = time.perf_counter()
    output = model.generate(
        ids,
        attention_mask=mask,
        do_sample=True,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        top_k=0,
        max_new_tokens=new,
        eos_token_id=None,
        pad_token_id=0,
    )
    count = int(output[:, longest:].ne(-1).sum())  # waits for the device
    elapsed = time.perf_counter() - started
    assert count == new * len(rows)
    return sum(row.new for row in rows) / elapsed


def compare(model: Any, label: str, rows: list[Row], repeats: int, target: float | None) -> None:
    pairs = []
    for repeat in range(repeats + 1):
        pair = asyncio.run(ours(model, rows)), theirs(model, rows)
        if repeat:  # the first one warms up
            pairs.append(pair)
    engine, generate = median(p[0] for p in pairs), median(p[1] for p in pairs)
    ratio = median(p[0] / p[1] for p in pairs)
    goal = "" if target is None else f"{target:.2f}{'' if ratio >= target else ' SHORT'}"
    print(
        f"| {label:<18} | {engine:>12.0f} | {generate:>14.0f} | {ratio:>5.2f} | {goal:>10} |",
        flush=True,
    )


class Peak:
    """Watches this process's memory on the device (bytes) while a block runs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes = 0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def used(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return int(psutil.Process().memory_info().rss)

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.bytes = max(self.bytes, self.used())

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()
        self.bytes = max(self.bytes, self.used())


def report_memory(arguments: argparse.Namespace) -> None:
    """One line a count; each is measured by a process of its own."""
    print("\n| trajectories | tokens cached | peak over the model, MB | kB a token |")
    print("|---|---|---|---|")
    for count in (24, 64, 256):
        command = [sys.executable, "-m", "benchmarks.engine", "--memory-of", str(count)]
        for name in ("model", "device", "dtype", "threads"):
            command += [f"--{name}", str(getattr(arguments, name))]
        subprocess.run(command, check=True)


def measure_memory(model: Any, count: int) -> None:
    rows = uniform_rows(count, model.config.vocab_size, prompt=128, new=64)
    asyncio.run(ours(model, rows[:1]))
    with Peak(model.device) as peak:
        before = peak.used()
        asyncio.run(ours(model, rows))
    grown = peak.bytes - before
    tokens = sum(len(row.prompt) + row.new for row in rows)
    print(f"| {count} | {tokens} | {grown / 1e6:.1f} | {grown / tokens / 1e3:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="model folder; default: a tiny random Llama")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--new", type=int, default=128, help="sampled tokens a row")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model is None:
            tiny_model(Path(folder), context_length=1024)
            arguments.model = folder
        torch.set_num_threads(arguments.threads)
        model = load_model(
            ModelConfig(path=arguments.model, device=arguments.device, dtype=arguments.dtype)
        )
        if arguments.memory_of:
            measure_memory(model, arguments.memory_of)
            return
        vocab = model.config.vocab_size
        print(f"{model.config.model_type}, {model.num_parameters():,} parameters, {model.device},")
        print(f"{model.dtype}, {arguments.threads} thread(s), {os.cpu_count()} cores,")
        print(f"temperature {TEMPERATURE}, top-p {TOP_P}, {arguments.new} new tokens a row\n")
        print("| rows               | engine tok/s | generate tok/s | ratio | target     |")
        print("|--------------------|--------------|----------------|-------|------------|")
        for count in (1, 8, 24):
            rows = uniform_rows(count, vocab, prompt=64, new=arguments.new)
            compare(model, str(count), rows, arguments.repeats, 0.95)
        for label, ends, target in (("24 ragged", True, 1.2), ("24 ragged, no ends", False, None)):
            rows = ragged_rows(24, vocab, new=arguments.new, ends=ends)
            compare(model, label, rows, arguments.repeats, target)
        report_memory(arguments)


if __name__ == "__main__":
    main()
