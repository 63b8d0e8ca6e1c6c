"""Check over the prefixes' caches against encoding the prefixes again: python -m benchmarks.check

Problems are solved as in a run. At the mark of each one the same [STOP] adapter on the same model scores
the waiting prefixes both ways, in turns: over the caches that sampling left, and on a second engine that
has nothing cached and encodes every prefix. The ratio is the median of the rounds' own ratios; both ways
must give the same scores. Check's share is its time over the caches in a problem's engine time: Check,
and the time in which rows were decoded (the paper has 0.59 %, for a 7B model on an H100). Ids that had
been cached and are encoded again must be 0.

Without an adapter (--adapter, or the shipped one) a fresh one is used: it costs the same.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.orchestrator import length
from solver import build
from solver.adapter.folder import load_adapter
from solver.adapter.gate import StopAdapter, StopGate
from solver.adapter.ids import find_stop_ids
from solver.adapter.spec import StopSpec
from solver.config import SolverConfig
from solver.embedded.paths import model_folder
from solver.engines.transformers import TransformersEngine
from solver.files.problems import load_problems
from solver.journal.events import Event, Sampled
from solver.runs.settings import load_config
from solver.scorers.folders import SHIPPED_ADAPTER
from solver.scorers.stop import GatedReader, StopScorer
from solver.solving.session import run_session
from solver.types import Trajectory

EXAMPLES = Path(__file__).parents[1] / "examples" / "problems.csv"
TOLERANCE = 1e-2  # logits: the two ways add up in another order


@dataclass
class Measured:
    """One problem's Check, over caches and encoding anew: seconds by round, ids encoded by one scoring."""

    problem_id: str
    num_prefixes: int
    seconds: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    ids: list[int] = field(default_factory=lambda: [0, 0])
    apart: float = 0.0  # logits


@dataclass(frozen=True)
class Way:
    """An engine and the scorer that reads [STOP] on it."""

    engine: TransformersEngine
    scorer: StopScorer

    async def timed(self, trajectories: Sequence[Trajectory]) -> tuple[list[float], float, int]:
        """Scores, seconds, and the ids that were encoded for them."""
        before, began = self.engine.stats.scratch, time.perf_counter()
        scores = await self.scorer.score(trajectories, inf)
        return scores, time.perf_counter() - began, self.engine.stats.scratch - before


class BothWays:
    """A scorer that gives STOP's scores and takes the time of both ways to get them."""

    name = "stop"

    def __init__(self, cached: Way, empty: Way, rounds: int) -> None:
        self.ways, self.rounds = (cached, empty), rounds
        self.measured: list[Measured] = []

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        found = Measured(trajectories[0].problem_id, len(trajectories))
        scores: list[list[float]] = [[], []]
        for number in range(self.rounds + 1):  # the first round warms up
            for place in (0, 1) if number % 2 else (1, 0):
                scores[place], seconds, ids = await self.ways[place].timed(trajectories)
                found.ids[place] = ids
                if number:
                    found.seconds[place].append(seconds)
        found.apart = max(abs(a - b) for a, b in zip(*scores, strict=True))
        self.measured.append(found)
        return scores[0]


def adapter_and_spec(
    model: Any, config: SolverConfig, folder: Path, saved: Path | None
) -> tuple[StopAdapter, StopSpec]:
    """The adapter in the folder `saved`, or a fresh one for the model in `folder`."""
    if saved is not None:
        dialect = config.model.dialect
        loaded = load_adapter(saved, folder, marks=[config.prune.mark], dialect=dialect)
        return loaded.adapter, loaded.spec
    rows, hidden_size = model.get_input_embeddings().weight.shape
    ids = find_stop_ids(AutoTokenizer.from_pretrained(str(folder)), rows, 4)
    fresh = StopAdapter.fresh(model, ids)
    spec = StopSpec(
        base_model="benchmark",
        fingerprint="0" * 64,
        hidden_size=hidden_size,
        stop_token_ids=ids,
        mark=config.prune.mark,
        dialect=config.model.dialect,
        prompt=config.model.prompt,
        rank=fresh.rank,
        alpha=fresh.alpha,
        targets=("q_proj", "v_proj"),
    )
    return fresh, spec


async def measure(arguments: argparse.Namespace) -> None:
    sets = [f"prune.launch={arguments.launch}", f"prune.keep={arguments.keep}"]
    overrides: dict[str, object] = {"model.path": arguments.model, "prune.scorer": "confidence"}
    config = load_config(arguments.preset, None, sets, overrides)
    problems = load_problems(arguments.problems)[: arguments.num]
    events: list[Event] = []
    async with build.services(
        config, record=events.append, started_at=time.monotonic(), stopping=asyncio.Event()
    ) as services:
        engine = services.engine
        assert isinstance(engine, TransformersEngine)
        folder = model_folder(arguments.model)
        adapter, spec = adapter_and_spec(engine.model, config, folder, arguments.adapter)
        async with TransformersEngine(engine.model) as other:
            with StopGate.attach(engine.model, adapter) as gate:
                cached = Way(engine, StopScorer(GatedReader(engine, gate), spec))
                empty = Way(other, StopScorer(GatedReader(other, gate), spec))
                both = BothWays(cached, empty, arguments.rounds)
                await run_session(problems, replace(services, scorer=both), solved={})
        re_encoded = engine.stats.re_encoded
        print(
            f"{engine.model.num_parameters():,} parameters, {engine.capabilities.device},"
            f" {engine.capabilities.dtype}, {torch.get_num_threads()} thread(s); mark"
            f" {config.prune.mark}, {arguments.launch} trajectories, {arguments.rounds} rounds"
        )
    report(both.measured, events)
    print(f"re-encoded tokens: {re_encoded}")
    assert re_encoded == 0, "something that was cached was encoded again"


def report(measured: Sequence[Measured], events: Sequence[Event]) -> None:
    print("\n| problem | prefixes | over caches: ids | ms | encoding: ids | ms | ratio | share |")
    print("|---|---|---|---|---|---|---|---|")
    ratios, shares = [], []
    assert measured, "in no problem more trajectories than are kept reached the mark"
    for each in measured:
        assert each.apart <= TOLERANCE, f"the two ways differ by {each.apart} logits"
        name = each.problem_id
        sampled = [
            (e.started, e.t) for e in events if isinstance(e, Sampled) and e.problem_id == name
        ]
        ours, theirs = (median(seconds) for seconds in each.seconds)
        ratios += [b / a for a, b in zip(*each.seconds, strict=True)]
        shares.append(ours / (ours + length(sampled)))
        print(
            f"| {name} | {each.num_prefixes} | {each.ids[0]} | {1e3 * ours:.1f} | {each.ids[1]} "
            f"| {1e3 * theirs:.1f} | {theirs / ours:.2f} | {shares[-1]:.2%} |"
        )
    print(
        f"\nCheck over the caches is {median(ratios):.2f} times as fast; its share of a problem's"
        f" engine time is {median(shares):.2%} (median), {max(shares):.2%} at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="embedded", help="model folder, or 'embedded'")
    parser.add_argument("--preset", help="embedded or general; default: by the model")
    parser.add_argument("--adapter", type=Path, help="default: the shipped one, else a fresh one")
    parser.add_argument("--problems", type=Path, default=EXAMPLES)
    parser.add_argument("--num", type=int, default=5, help="problems")
    parser.add_argument("--launch", type=int, default=24)
    parser.add_argument("--keep", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7, help="each way, a problem")
    arguments = parser.parse_args()
    if arguments.adapter is None and arguments.model == "embedded" and SHIPPED_ADAPTER.is_dir():
        arguments.adapter = SHIPPED_ADAPTER
    asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
