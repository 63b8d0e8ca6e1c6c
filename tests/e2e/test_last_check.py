"""The last check for real: the embedded model with two adapters on it, and what that costs the engine."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

import pytest

from solver import build
from solver.adapter.folder import read_spec
from solver.engines.core import EngineStats
from solver.engines.transformers import TransformersEngine
from solver.files.problems import load_problems
from solver.journal.events import Ended, Event, Solved
from solver.runs.settings import load_config
from solver.scorers.folders import SHIPPED_ADAPTER
from solver.solving.session import run_session
from solver.types import StopReason

EXAMPLES = Path(__file__).parents[2] / "examples" / "problems.csv"
SETS = ("prune.launch=4", "prune.keep=2", "vote.stop=off")


@pytest.fixture(scope="module")
def last(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped adapter as if it had been trained at the end, with ids next to its own."""
    folder = tmp_path_factory.mktemp("adapters") / "last"
    shutil.copytree(SHIPPED_ADAPTER, folder)
    spec = json.loads((folder / "stop.json").read_text())
    ids = [token + 4 for token in spec["stop_token_ids"]]
    (folder / "stop.json").write_text(json.dumps({**spec, "mark": None, "stop_token_ids": ids}))
    return folder


async def played(*sets: str) -> tuple[Solved, list[Event], EngineStats]:
    events: list[Event] = []
    config = load_config(sets=[*SETS, *sets])
    [problem, *_] = load_problems(EXAMPLES)
    async with build.services(
        config, record=events.append, started_at=time.monotonic(), stopping=asyncio.Event()
    ) as services:
        assert isinstance(services.engine, TransformersEngine)
        [solved] = await run_session([problem], services, solved={})
        return solved, events, services.engine.stats


def answers(events: list[Event]) -> dict[int, Ended]:
    """Who ended its turn by itself, by index."""
    ends = [event for event in events if isinstance(event, Ended)]
    return {end.index: end for end in ends if end.stop_reason is StopReason.ANSWERED}


def shape(ended: dict[int, Ended]) -> dict[int, tuple[int | None, int]]:
    return {i: (end.answer, end.num_sampled_tokens) for i, end in ended.items()}


async def test_nothing_is_encoded_a_second_time(last: Path) -> None:
    plain, before, usual = await played()
    solved, events, stats = await played("vote.rule=verified", f"vote.adapter={last}")
    ended = answers(events)
    scored = {index for index, end in ended.items() if end.answer is not None}
    assert scored == {index for index, end in ended.items() if end.evidence.verified is not None}
    assert scored and solved.weights and not solved.degraded
    # nobody's tokens are others, and the engine encodes five ids an answer, and the handshake
    assert shape(ended) == shape(answers(before))
    assert solved.votes == plain.votes and solved.sampled_tokens == plain.sampled_tokens
    assert stats.re_encoded == 0
    # no other ids are given; which are cached depends on what was sampled before the call was heard of
    assert stats.prefilled + stats.reused == usual.prefilled + usual.reused
    shake = read_spec(last).handshake
    assert shake is not None
    spent = stats.scratch - usual.scratch
    assert spent == len(shake.prefix_token_ids) + 4 + len(scored) * (1 + 4)
