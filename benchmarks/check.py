"""Check over the prefixes' caches against encoding the prefixes again: python -m benchmarks.check

Problems are solved as in a run. At the mark of each one the same [STOP] adapter on the same model scores
the waiting prefixes both ways, in turns: over the caches that sampling left, and on a second engine that
has nothing cached and encodes every prefix. The ratio is the median of the rounds' own ratios; both ways
must give the same scores. Check's share is its time over the caches in a problem's engine time (Check, and the time in
which rows were decoded). Ids that had been cached and are encoded again must be 0.

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

import torch

from benchmarks.orchestrator import length
from solver import build
from solver.embedded.paths import model_folder
from solver.engines.transformers import TransformersEngine
from solver.events import Event, Sampled
from solver.problems import load_problems
from solver.scorers.registry import SHIPPED_ADAPTER
from solver.scorers.stop import StopScorer
from solver.services import Services
from solver.session import run_session
from solver.settings import load_config
from solver.stop.gate import StopAdapter, StopGate
from solver.stop.ids import find_stop_ids
from solver.stop.spec import StopSpec
from solver.types import Trajectory

EXAMPLES = Path(__file__).parents[1] / "examples" / "problems.csv"
TOLERANCE = 1e-2  # logits: the two ways add up in another order


@dataclass
class Measured:
    """One problem's Check. Seconds are of each round; ids are those encoded by one scoring."""

    problem_id: str
    lengths: list[int]  # of the prefixes
    over_caches: list[float] = field(default_factory=list)
    encoding: list[float] = field(default_factory=list)
    ids_over_caches: int = 0
    ids_encoding: int = 0


async def timed(
    scorer: StopScorer, trajectories: Sequence[Trajectory]
) -> tuple[list[float], float, int]:
    """Scores, seconds, and the ids that the scorer's engine encoded for them."""
    before, began = scorer.engine.stats.scratch, time.perf_counter()
    scores = await scorer.score(trajectories, inf)
    return scores, time.perf_counter() - began, scorer.engine.stats.scratch - before


class BothWays:
    """A scorer that gives STOP's scores and takes the time of both ways to get them."""

    name = "stop"

    def __init__(self, cached: StopScorer, empty: StopScorer, rounds: int) -> None:
        self.cached, self.empty, self.rounds = cached, empty, rounds
        self.measured: list[Measured] = []

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        lengths = [len(trajectory.token_ids) for trajectory in trajectories]
        found = Measured(trajectories[0].problem_id, lengths)
        scores, *_ = await timed(self.cached, trajectories)  # warms up
        again, *_ = await timed(self.empty, trajectories)
        for number in range(self.rounds):
            for cached in (True, False) if number % 2 else (False, True):
                scorer = self.cached if cached else self.empty
                result, seconds, ids = await timed(scorer, trajectories)
                if cached:
                    scores, found.ids_over_caches = result, ids
                    found.over_caches.append(seconds)
                else:
                    again, found.ids_encoding = result, ids
                    found.encoding.append(seconds)
        apart = max(abs(a - b) for a, b in zip(scores, again, strict=True))
        assert apart <= TOLERANCE, f"the two ways differ by {apart} logits"
        self.measured.append(found)
        return scores


async def open_stop(services: Services, folder: Path, adapter: Path | None) -> StopScorer:
    """STOP on the services' engine: the adapter in the folder, or a fresh one."""
    engine, config = services.engine, services.config
    assert isinstance(engine, TransformersEngine)
    if adapter is not None:
        return await StopScorer.open(
            engine,
            adapter,
            folder,
            mark=config.prune.mark,
            dialect=config.model.dialect,
            prompt=config.model.prompt,
        )
    from transformers import AutoTokenizer

    rows, hidden_size = engine.model.get_input_embeddings().weight.shape
    ids = find_stop_ids(AutoTokenizer.from_pretrained(str(folder)), rows, 4)
    fresh = StopAdapter.fresh(engine.model, ids)
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
    return StopScorer(engine, StopGate.attach(engine.model, fresh), spec)


async def measure(arguments: argparse.Namespace) -> None:
    sets = [f"prune.launch={arguments.launch}", f"prune.keep={arguments.keep}"]
    overrides: dict[str, object] = {"model.path": arguments.model, "prune.scorer": "confidence"}
    config = load_config(arguments.preset, None, sets, overrides)
    problems = load_problems(arguments.problems)[: arguments.num]
    events: list[Event] = []
    async with build.services(
        config, record=events.append, started_at=time.monotonic(), stopping=asyncio.Event()
    ) as services:
        stop = await open_stop(services, model_folder(arguments.model), arguments.adapter)
        engine = services.engine
        assert isinstance(engine, TransformersEngine)
        both = BothWays(stop, engine, arguments.rounds)
        try:
            await run_session(problems, replace(services, scorer=both), solved={})
        finally:
            stop.close()
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
    print("\n| problem | prefixes | over caches, ms | encoding, ms | ratio | ids | ids | share |")
    print("|---|---|---|---|---|---|---|---|")
    ratios, shares = [], []
    for each in measured:
        sampled = [
            (e.started, e.t)
            for e in events
            if isinstance(e, Sampled) and e.problem_id == each.problem_id
        ]
        ours, theirs = median(each.over_caches), median(each.encoding)
        ratios += [b / a for a, b in zip(each.over_caches, each.encoding, strict=True)]
        shares.append(ours / (ours + length(sampled)))
        # The last id of a prefix has been sampled and not read yet; then the [STOP] ids.
        assert each.ids_over_caches % each.prefixes == 0
        print(
            f"| {each.problem_id} | {each.prefixes} | {1e3 * ours:.1f} | {1e3 * theirs:.1f} "
            f"| {theirs / ours:.2f} | {each.ids_over_caches} | {each.ids_encoding} "
            f"| {shares[-1]:.2%} |"
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
