"""Hosts over the fake server: real processes, real ports, nothing of vLLM."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from solver.config import ModelConfig, VllmConfig
from solver.engines.vllm.command import Recipe
from solver.engines.vllm.supervised import Supervised
from tests.engines.vllm_hosts import fake_process
from tests.engines.vllm_hosts.fake_process import Play, embedded_server
from tests.support.fake_vllm import InThread


class Told:
    """What was said while a host worked."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.incidents: list[str] = []


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """How the fake is started, as it is told to play, with settings of vLLM."""

    def make(play: Play, **settings: Any) -> Recipe:
        play.folder = str(tmp_path)
        model = settings.pop("model", ModelConfig())
        return Recipe(
            Path("/models/small"),
            model,
            VllmConfig(**{"start_limit_s": 60.0, **settings}),
            settings={},
            on_cpu=True,
            environment={**os.environ, "FAKE_PLAY": json.dumps(asdict(play))},
            program=(sys.executable, "-I", fake_process.__file__),
        )

    return make


@pytest.fixture
async def supervised(
    recipe: Callable[..., Recipe], tmp_path: Path, told: Told
) -> AsyncIterator[Callable[..., Supervised]]:
    """Makes hosts, and ends them with the test."""
    async with AsyncExitStack() as stack:

        def make(play: Play, *, progress_s: float = 10.0, **settings: Any) -> Supervised:
            host = Supervised(
                recipe(play, **settings),
                tmp_path / "vllm.log",
                say=told.said.append,
                on_incident=told.incidents.append,
                progress_s=progress_s,
            )
            stack.push_async_callback(host.aclose)
            return host

        yield make


@pytest.fixture
def in_thread() -> Iterator[Callable[..., InThread]]:
    """Makes fakes that only answer."""
    fakes = []

    def make(**settings: Any) -> InThread:
        fakes.append(InThread(embedded_server(**settings)))
        return fakes[-1]

    yield make
    for fake in fakes:
        fake.close()


def pids(folder: Path) -> list[int]:
    """Every process that a fake has had."""
    path = folder / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def flags(folder: Path, start: int) -> list[str]:
    """The flags of the fake's nth start."""
    words: list[str] = json.loads((folder / f"start-{start}").read_text())
    return words


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def num_starts(folder: Path) -> int:
    """How often the fake was started."""
    return len(list(folder.glob("start-*")))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def says(log: Path, words: str) -> bool:
    """Whether the log exists and holds the words."""
    return log.exists() and words in log.read_text()
