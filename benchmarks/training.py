"""Training STOP: siblings packed over a shared prompt in 16 bits, against each prefix for itself in float32.

    python -m benchmarks.training
    python -m benchmarks.training --model FOLDER --data examples.jsonl --problems 8

Both sides encode the same prefixes and then take the same [STOP] pass, forward and backward, in turn. Without
data, random ids stand for problems of a 190-token prompt with 8 prefixes of 48 more each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.tiny import tiny_model
from solver.adapter.gate import StopAdapter, StopGate
from solver.adapter.score import encode_prefixes, stop_states
from solver.stop.commands.libraries import quiet_transformers
from solver.stop.rollouts.examples import read_examples
from solver.stop.training.base import load_base
from solver.stop.training.prefixes import PrefixStore
from solver.stop.training.recipe import Recipe
from solver.stop.training.shelf import MemoryShelf

PROMPT, SIBLINGS, OWN = 190, 8, 48
STOP_IDS = (1020, 1021, 1022, 1023)  # of the random model
BATCH = 32


def random_prefixes(problems: int) -> tuple[list[list[int]], list[str]]:
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(0, 1000, (count,), generator=draw).tolist()

    prefixes, names = [], []
    for number in range(problems):
        prompt = ids(PROMPT)
        prefixes += [[*prompt, *ids(OWN)] for _ in range(SIBLINGS)]
        names += [str(number)] * SIBLINGS
    return prefixes, names


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def learn(states: Callable[[Sequence[int]], torch.Tensor], count: int) -> None:
    """The part of an epoch that both sides share but for where the states come from."""
    for start in range(0, count, BATCH):
        states(range(start, min(count, start + BATCH))).float().pow(2).mean().backward()  # type: ignore[no-untyped-call]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--model", type=Path, help="model folder or GGUF file; default: a random one"
    )
    parser.add_argument(
        "--data", type=Path, help="examples of that model, as `collect` writes them"
    )
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quiet_transformers()
    model: Any
    stop_ids: Sequence[int]
    if arguments.model is None:
        with tempfile.TemporaryDirectory() as folder:
            model, stop_ids = tiny_model(Path(folder), 1024), STOP_IDS
        model.eval().requires_grad_(False)
        prefixes, names = random_prefixes(arguments.problems)
    else:
        loaded = load_base(arguments.model, Recipe(), "cpu")
        model, stop_ids = loaded.model, loaded.stop_token_ids
        examples = read_examples(arguments.data)
        chosen = list(dict.fromkeys(e.problem_id for e in examples))[: arguments.problems]
        examples = [e for e in examples if e.problem_id in chosen]
        prefixes = [list(e.prefix_token_ids) for e in examples]
        names = [e.problem_id for e in examples]
    shelf = MemoryShelf(0)
    store = PrefixStore(model, [], [], shelf)
    alone: list[torch.Tensor] = []

    def encode_alone() -> None:
        alone[:] = [encode_prefixes(model, [prefix])[0] for prefix in prefixes]

    def encode_packed() -> None:
        nonlocal shelf, store
        shelf = MemoryShelf(float("inf"))
        store = PrefixStore(model, prefixes, names, shelf)
        store.fill()

    seconds: dict[str, list[float]] = {}
    with StopGate.attach(model, StopAdapter.fresh(model, stop_ids)):
        sides = {
            "encode, each alone": encode_alone,
            "encode, packed": encode_packed,
            "epoch, each alone": lambda: learn(
                lambda rows: stop_states(model, stop_ids, [alone[row] for row in rows]),
                len(prefixes),
            ),
            "epoch, packed": lambda: learn(
                lambda rows: store.stop_states(stop_ids, rows), len(prefixes)
            ),
        }
        for number in range(arguments.rounds + 1):
            for name, work in sides.items():
                taken = timed(work)
                if number:  # the first round warms up
                    seconds.setdefault(name, []).append(taken)
    print(
        f"{len(prefixes)} prefixes of {len(set(names))} problems, {sum(map(len, prefixes)):,} tokens,"
        f" {store.num_tokens:,} of them packed; {arguments.threads} threads\n"
    )
    print("| | each alone, float32 | packed, bfloat16 | ratio |")
    print("|---|---|---|---|")
    for what in ("encode", "epoch"):
        before, now = (seconds[f"{what}, {side}"] for side in ("each alone", "packed"))
        ratio = median(a / b for a, b in zip(before, now, strict=True))
        print(f"| {what}, s | {median(before):.2f} | {median(now):.2f} | {ratio:.2f} |")
    kept = sum(tensor.numel() * tensor.element_size() for tensor in alone)
    print(
        f"| kept, MB | {kept / 1e6:.1f} | {shelf.num_bytes / 1e6:.1f} | {kept / shelf.num_bytes:.2f} |"
    )


if __name__ == "__main__":
    main()
