"""Building what a run needs: the event loop goes on meanwhile, and errors come in their order."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from sandbox.result import ExecutionResult, ExecutionStatus
from solver import build
from solver.config import SolverConfig
from solver.dialects.base import Dialect
from solver.embedded.paths import WEIGHTS
from solver.errors import ModelError
from solver.runs.settings import load_config
from solver.solving.services import Services
from solver.types import Trajectory, Turn
from tests.support.harmony import dialect as harmony_dialect

_LONG_S = 20.0  # only a loop that stands still takes it


def building(**overrides: object) -> AbstractAsyncContextManager[Services]:
    return build.services(
        load_config(overrides={"prune.scorer": "none", **overrides}),
        record=lambda event: None,
        started_at=time.monotonic(),
        stopping=asyncio.Event(),
    )


@pytest.mark.torch
async def test_the_loop_goes_on_while_the_dialect_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, went_on, opened = asyncio.get_running_loop(), threading.Event(), build.open_dialect

    def waits_for_the_loop(config: SolverConfig, folder: Path) -> Dialect:
        loop.call_soon_threadsafe(went_on.set)
        assert went_on.wait(_LONG_S), "the loop stood still"
        return opened(config, folder)

    monkeypatch.setattr(build, "open_dialect", waits_for_the_loop)
    async with building() as services:
        assert services.dialect.prompt("1+1?")


@pytest.mark.parametrize("dialect", ["fenced", "harmony"])
def test_a_dialect_has_the_limits_of_the_runs_kernels(dialect: str) -> None:
    if dialect == "harmony":
        harmony_dialect()  # skips without the vocabulary
    changes = {
        "model.dialect": dialect,
        "model.prompt": "tools" if dialect == "fenced" else dialect,
    }
    settings = {**changes, "sandbox.output_bytes": 100_000, "sandbox.memory_bytes": 8 << 30}
    opened = build.open_dialect(load_config(overrides=settings), WEIGHTS)
    attempt = Trajectory("p", 0, 1, (), [Turn(opened.prompt("1+1?")[-1:])])
    result = ExecutionResult(status=ExecutionStatus.ERROR, stdout="1" * 90_000, error="MemoryError")
    told = opened.text(opened.tool_message(attempt, result))
    assert told.count("1") == 90_000 and "MemoryError: 8 GiB limit" in told


async def test_a_missing_tokenizer_is_told_before_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer in"):
        async with building(**{"model.path": str(tmp_path)}):
            pytest.fail("there is nothing to solve with")
