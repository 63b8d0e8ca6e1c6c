"""The sampler's share of a step of a real model: python -m benchmarks.sampler FILE.gguf

For each way to sample: milliseconds of a step of the engine with `--streams` streams, those of them in the
sampler, and the share (target: at most 10 %), the median of rounds in turn. The streams answer one question,
for how much top-p and min-p keep depends on how sure the model is. No id ends a sequence.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from solver.cli.app import run_app
from solver.config import ModelConfig
from solver.engines import core
from solver.engines.loading import load_model
from solver.engines.sampler import Sampler
from solver.engines.tokenizer import load_tokenizer
from solver.engines.transformers import TransformersEngine
from solver.files.tables import markdown_table
from solver.types import SamplingParams

KINDS: dict[str, dict[str, Any]] = {
    "temperature": {},
    "top-k and top-p": {"top_k": 40, "top_p": 0.95},
    "top-p": {"top_p": 0.95},
    "min-p": {"min_p": 0.05},
}
TARGET = 0.1
QUESTION = "A baker fills 18 trays with 24 rolls each and sells five sixths of them. How many rolls are left?"


class Clocked(Sampler):
    """A sampler that adds up its seconds and calls."""

    seconds, calls = 0.0, 0

    def sample(self, *given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        sampled = super().sample(*given, **named)
        Clocked.seconds += time.perf_counter() - began
        Clocked.calls += 1
        return sampled


def prompt_of(model: Path) -> list[int]:
    """The ids of the question in the model's own chat template."""
    tokenizer = load_tokenizer(model)
    asked = [{"role": "user", "content": QUESTION}]
    text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


async def steps(
    loaded: Any, prompt: list[int], kind: dict[str, Any], streams: int, new: int
) -> tuple[float, float]:
    """Milliseconds of a step, and of its sampler. The prompt's step is among the `new` ones."""

    async def one(engine: TransformersEngine, number: int) -> None:
        params = SamplingParams(new, seed=number, temperature=0.7, **kind)
        async for _ in engine.generate(str(number), prompt, params):
            pass

    Clocked.seconds, Clocked.calls = 0.0, 0
    async with TransformersEngine(loaded) as engine:
        began = time.perf_counter()
        await asyncio.gather(*(one(engine, number) for number in range(streams)))
        whole = time.perf_counter() - began
    return 1000 * whole / Clocked.calls, 1000 * Clocked.seconds / Clocked.calls


app = typer.Typer(add_completion=False)


@app.command()
def main(
    model: Annotated[Path, typer.Argument(help="a GGUF file or a folder")],
    streams: Annotated[int, typer.Option(min=1)] = 24,
    new: Annotated[int, typer.Option(min=2, help="steps of a round")] = 32,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    torch.set_num_threads(threads)
    setattr(core, "Sampler", Clocked)  # noqa: B010
    loaded = load_model(ModelConfig(path=str(model), device="cpu"))
    prompt = prompt_of(model)
    asyncio.run(steps(loaded, prompt, {}, streams, new))  # warm-up
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in KINDS}
    for _ in range(rounds):
        for name, kind in KINDS.items():
            found[name].append(asyncio.run(steps(loaded, prompt, kind, streams, new)))
    lines = []
    for name, of_rounds in found.items():
        share = median(inside / whole for whole, inside in of_rounds)
        whole, inside = (median(column) for column in zip(*of_rounds, strict=True))
        verdict = "" if share <= TARGET else " OVER"
        lines.append([name, f"{whole:.0f}", f"{inside:.1f}", f"{share:.1%}{verdict}"])
    print(f"{model.name}: {streams} streams, {threads} threads, {rounds} rounds of {new} steps\n")
    print("\n".join(markdown_table(["", "step, ms", "sampler, ms", "share"], lines)))


if __name__ == "__main__":
    sys.exit(run_app(app, None))
