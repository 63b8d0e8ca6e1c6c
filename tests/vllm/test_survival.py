"""A real server that is killed, refused, or left behind: nothing is lost, and nothing stays."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from solver.adapter.folder import read_spec
from solver.config import SolverConfig
from solver.embedded.paths import WEIGHTS
from solver.engines.vllm.client import Client
from solver.engines.vllm.engine import VllmEngine
from solver.engines.vllm.handshake import Expected, verify_server
from solver.engines.vllm.open import open_vllm
from solver.errors import ConfigError, ModelError
from solver.types import SamplingParams
from tests.support.processes import command_of, name_of

pytestmark = [pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

ADAPTER = WEIGHTS.parent / "stop"
PROMPTS = [[1, 880, 760, 515, 289, 333, 324, 279, 73, first] for first in range(28, 36)]
GREEDY = SamplingParams(max_tokens=480, seed=0, temperature=0.0)


def settings(**vllm: Any) -> SolverConfig:
    return SolverConfig.model_validate(
        {"model": {"engine": "vllm"}, "prune": {"scorer": "stop"}, "vllm": vllm}
    )


@pytest.fixture(scope="module")
def incidents() -> list[str]:
    return []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(
    tmp_path_factory: pytest.TempPathFactory, incidents: list[str]
) -> AsyncIterator[VllmEngine]:
    """One engine on a server of its own, for all of this module."""
    OTHERS.update(p.pid for p in below(os.getpid()))
    async with await open_vllm(
        settings(silence_s=30.0),
        WEIGHTS,
        ADAPTER,
        candidates=False,
        log_folder=tmp_path_factory.mktemp("log"),
        say=print,
        on_incident=incidents.append,
    ) as opened:
        yield opened


_ROUNDS = 40
OTHERS: set[int] = set()  # processes of the servers that other modules have started


class Streams:
    """Eight prompts that are continued at the same time."""

    def __init__(self, engine: VllmEngine) -> None:
        self.sampled: list[list[int]] = [[] for _ in PROMPTS]
        self._engine = engine
        self._tasks = [asyncio.create_task(self._stream(i)) for i in range(len(PROMPTS))]

    async def _stream(self, index: int) -> None:
        async for chunk in self._engine.generate(f"t#{index}", PROMPTS[index], GREEDY):
            self.sampled[index] += chunk.token_ids

    @property
    def num_done(self) -> int:
        return sum(task.done() for task in self._tasks)

    async def all_ids(self) -> list[list[int]]:
        await asyncio.gather(*self._tasks)
        return self.sampled


async def killed_in_the_middle(engine: VllmEngine, victim: str) -> list[list[int]]:
    """What eight streams bring when those of our processes die that have `victim` in their command.

    The small model is quick and the machine may be busy. So the model stands still while we look, and
    streams that were done before anybody could look are begun again: only then is it the middle.
    """
    [worker] = named("VLLM::Worker")
    for _ in range(_ROUNDS):
        worker.suspend()
        streams = Streams(engine)
        while not any(streams.sampled):
            worker.resume()
            await asyncio.sleep(0.01)
            worker.suspend()
            await settled(streams)
        if streams.num_done < len(PROMPTS):
            for process in named(victim):
                process.kill()
            return await streams.all_ids()
        worker.resume()
    raise AssertionError("never in the middle")


async def settled(streams: Streams) -> None:
    """Return when all that the server had sent before it stood still has come."""
    before = -1
    while (now := sum(map(len, streams.sampled))) != before:
        before = now
        await asyncio.sleep(0.5)


def below(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return found


def named(name: str) -> list[psutil.Process]:
    """Those of our processes that have `name` in their title or command."""
    ours = [p for p in below(os.getpid()) if p.pid not in OTHERS]
    found = [p for p in ours if name in f"{name_of(p)} {command_of(p)}"]
    assert found, name
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(engine: VllmEngine) -> list[list[int]]:
    return await Streams(engine).all_ids()


@pytest.mark.parametrize("victim", ["EngineCor", "vllm.entrypoints"])
async def test_a_killed_server_costs_no_id(
    engine: VllmEngine, undisturbed: list[list[int]], incidents: list[str], victim: str
) -> None:
    # the second name is in the command of the server and of its watcher: both are killed
    before = len(incidents)
    processes = {p.pid for p in below(os.getpid())} - OTHERS
    assert await killed_in_the_middle(engine, victim) == undisturbed
    assert all(len(ids) == GREEDY.max_tokens for ids in undisturbed)
    assert any("was lost" in what for what in incidents[before:])
    assert any("is back after" in what for what in incidents[before:])
    assert not processes & {p.pid for p in below(os.getpid())}, "nothing of the first one is left"


async def test_scores_are_what_they_were_after_all_that(engine: VllmEngine) -> None:
    handshake = read_spec(ADAPTER).handshake
    assert handshake is not None
    [logit] = await engine.stop_logits([("t", handshake.prefix_token_ids)])
    assert handshake.agrees(logit, engine.capabilities.dtype)


async def test_a_server_that_differs_is_refused(engine: VllmEngine) -> None:
    spec = read_spec(ADAPTER)
    assert spec.handshake is not None
    fits = Expected(1024, 60.0, "float32", adapter=ADAPTER, spec=spec, stop_flags=("--flag", "x"))
    other = spec.handshake.model_copy(update={"logit": spec.handshake.logit + 1})
    cases = {
        "serves another model: its vocabulary is of 1024 ids": replace(fits, vocab_size=2000),
        "its vocabulary is of more than 1000 ids": replace(fits, vocab_size=1000),
        "start it with --max-model-len 1024": replace(fits, context_length=1024),
        "another model, adapter or arithmetic; start it with --flag x": replace(
            fits, spec=spec.model_copy(update={"handshake": other})
        ),
        "serves no STOP adapter: install stop-solver beside its vLLM": replace(
            fits, spec=spec.model_copy(update={"stop_token_ids": (900, 901)})
        ),
    }
    client = Client(engine.capabilities.device)
    try:
        facts = await verify_server(client, fits, print)
        assert facts.context_length == 512 and facts.capacity_tokens
        for words, expected in cases.items():
            with pytest.raises(ModelError) as caught:
                await verify_server(client, expected, print)
            assert words in str(caught.value)
    finally:
        await client.aclose()


REFUSED: dict[str, tuple[dict[str, Any], Path, str]] = {
    "no adapter": ({}, WEIGHTS, "is not a STOP adapter"),
    "another mark": ({"prune": {"mark": 33}}, ADAPTER, "trained for mark 32"),
    "float16": ({"vllm": {"args": ["--dtype", "float16"]}}, ADAPTER, "cannot be served in float16"),
    "pipeline": ({"vllm": {"args": ["-pp", "2"]}}, ADAPTER, "pipeline parallelism"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_served_is_refused_before_a_server_is_started(
    case: str, tmp_path: Path
) -> None:
    given, adapter, words = REFUSED[case]
    config = SolverConfig.model_validate({"model": {"engine": "vllm"}, **given})
    with pytest.raises((ConfigError, ModelError)) as caught:
        await open_vllm(
            config,
            WEIGHTS,
            adapter,
            candidates=False,
            log_folder=tmp_path,
            say=print,
            on_incident=print,
        )
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "vllm.log").exists()


async def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        await open_vllm(
            settings(args=["--max-model-len", "99999"]),
            WEIGHTS,
            ADAPTER,
            candidates=False,
            log_folder=tmp_path,
            say=print,
            on_incident=print,
        )
    assert "max_model_len (99999) is greater than" in str(caught.value), caught.value
    assert str(tmp_path / "vllm.log") in str(caught.value) and caught.value.__notes__


_OWNER = """
import asyncio, sys
from pathlib import Path
from solver.config import SolverConfig
from solver.embedded.paths import WEIGHTS
from solver.engines.vllm.open import open_vllm

async def main():
    config = SolverConfig.model_validate({"model": {"engine": "vllm"}, "prune": {"scorer": "stop"}})
    await open_vllm(config, WEIGHTS, WEIGHTS.parent / "stop", candidates=False,
                    log_folder=Path(sys.argv[1]), say=lambda _: None, on_incident=lambda _: None)
    print("open", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_killing_the_solver_leaves_no_process_of_vllm(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _OWNER, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    everybody: list[psutil.Process] = []
    try:
        assert await owner.stdout.readline() == b"open\n"
        everybody = below(owner.pid)
        assert len(everybody) >= 4  # watcher, server, engine core, worker
    finally:
        owner.send_signal(signal.SIGKILL)
        await owner.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, everybody, 30)
    assert not alive
