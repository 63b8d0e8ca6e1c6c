from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from solver.config import VllmConfig
from solver.engines.vllm.engine import VllmEngine
from solver.errors import EngineError
from solver.types import Chunk, SamplingParams
from tests.support.fake_vllm import CONTEXT, STOP_IDS, VOCAB, FakeServer


def greedy(max_tokens: int, **changes: Any) -> SamplingParams:
    return SamplingParams(max_tokens, 0, temperature=0.0, **changes)


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as something holds, which it must within a generous time."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@dataclass
class Said:
    """What a request answered."""

    chunks: list[Chunk] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [token for chunk in self.chunks for token in chunk.token_ids]

    @property
    def logprobs(self) -> list[float]:
        return [logprob for chunk in self.chunks for logprob in chunk.logprobs]

    @property
    def counts(self) -> tuple[int, int]:
        return self.chunks[-1].reused_tokens, self.chunks[-1].encoded_tokens


class FakeHost:
    """Restarts its server after `recover_s`; gives it up after `most` times."""

    def __init__(self, server: FakeServer, recover_s: float = 0.05, most: int = 100) -> None:
        self.server, self.recover_s, self.most = server, recover_s, most
        self.recoveries = self.tokens = 0
        self.closed = False

    @property
    def url(self) -> str:
        return self.server.url

    async def start(self) -> None:
        await self.server.start()

    async def recover(self) -> None:
        self.recoveries += 1
        if self.recoveries > self.most:
            raise EngineError("it crashed too often")
        await asyncio.sleep(self.recover_s)
        self.server.faults = deque(f for f in self.server.faults if f and f.kind != "dead")
        await self.server.restart()

    def reset_failures(self) -> None:
        self.tokens += 1

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Rig:
    """Scripted servers, an engine on them, and what it said about them."""

    servers: list[FakeServer]
    hosts: list[FakeHost]
    engine: VllmEngine
    incidents: list[str]

    @property
    def server(self) -> FakeServer:
        return self.servers[0]

    async def say(self, name: str, ids: list[int], params: SamplingParams) -> Said:
        return Said([chunk async for chunk in self.engine.generate(name, ids, params)])


@pytest.fixture
async def rig() -> AsyncIterator[Callable[..., Any]]:
    """Starts scripted servers and opens engines on them; at the end no connection may be left."""
    rigs: list[Rig] = []

    async def open_rig(
        *servers: FakeServer,
        candidates: bool = False,
        most: int = 100,
        recover_s: float = 0.05,
        context_length: int = CONTEXT,
        **config: Any,
    ) -> Rig:
        started = list(servers) or [FakeServer()]
        hosts = [FakeHost(server, recover_s, most) for server in started]
        for host in hosts:
            await host.start()
        incidents: list[str] = []
        engine = await VllmEngine.open(
            hosts,
            model_name="fake",
            context_length=context_length,
            vocab_size=VOCAB,
            dtype="float32",
            config=VllmConfig(**{"silence_s": 60.0, "probe_s": 5.0, **config}),
            candidates=candidates,
            stop_token_ids=STOP_IDS,
            on_incident=incidents.append,
        )
        rigs.append(Rig(started, hosts, engine, incidents))
        return rigs[-1]

    yield open_rig
    for made in rigs:
        await made.engine.aclose()
        assert all(host.closed for host in made.hosts)
        for server in made.servers:
            await server.crash()
            assert server.open_connections == 0
