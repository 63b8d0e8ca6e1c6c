"""The vLLM engine: servers behind the `Engine` port, and the scores at the mark."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from solver.adapter.spec import Handshake
from solver.adapter.vllm.serving import read_logit
from solver.config import VllmConfig
from solver.engines.refusals import check_ids, check_length, check_request
from solver.engines.vllm.admission import HEADROOM, Admission
from solver.engines.vllm.fleet import Closing, Fleet, Server, connect
from solver.engines.vllm.hosts import Host
from solver.engines.vllm.request import Request, complete
from solver.engines.vllm.sampling import SamplingRequest
from solver.engines.vllm.stats import VllmStats
from solver.errors import EngineError
from solver.ports import EngineCapabilities
from solver.types import Chunk, FinishReason, SamplingParams

V = TypeVar("V", bound=Request)


class VllmEngine:
    """Samples from one or several vLLM servers, for one event loop.

    When a server is lost, its requests wait for it or go on at another one from the ids they have; the
    consumer only sees more chunks. The servers decide what is cached; `release` only forgets which
    server a trajectory was on. The number of ids that were cached comes with a request's last chunk. A
    random draw depends on the request's seed and on the position where its attempt began.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        capabilities: EngineCapabilities,
        config: VllmConfig,
        *,
        candidates: bool,
        stop_token_ids: tuple[int, ...] | None,
        handshake: Handshake | None,
        on_incident: Callable[[str], None],
    ) -> None:
        """Use `VllmEngine.open`, whose parameters these are."""
        self.capabilities = capabilities
        self.handshake = handshake
        self._config, self._candidates, self._stop_ids = config, candidates, stop_token_ids
        self._fleet = Fleet(servers, config.probe_s, on_incident)
        self._open: set[Request] = set()
        self._stats = VllmStats()
        self._closed = False

    @classmethod
    async def open(
        cls,
        hosts: Sequence[Host],
        *,
        model_name: str,
        context_length: int,
        vocab_size: int,
        dtype: str,
        config: VllmConfig,
        candidates: bool,
        stop_token_ids: tuple[int, ...] | None,
        handshake: Handshake | None = None,
        on_incident: Callable[[str], None],
    ) -> Self:
        """An engine on hosts that have been started; it closes them when it is closed.

        `context_length` is cut to what the smallest KV cache can hold. `candidates` fills the
        confidences and entropies of chunks, at the price of larger events. `stop_token_ids` are
        those of the servers' adapter, None without one; `handshake` is the prefix with its score that
        every host compares before its server is used, None if there is none. `on_incident` gets one
        sentence for each loss and recovery of a server. Raises `EngineError`.
        """
        servers = []
        for host in hosts:
            client, capacity = await connect(host)
            servers.append(Server(host, client, Admission(capacity)))
            if capacity is not None:
                context_length = min(context_length, capacity - HEADROOM)
        capabilities = EngineCapabilities(
            name="vllm",
            model=model_name,
            context_length=context_length,
            vocab_size=vocab_size,
            device=" ".join(host.url for host in hosts),
            dtype=dtype,
        )
        return cls(
            servers,
            capabilities,
            config,
            candidates=candidates,
            stop_token_ids=stop_token_ids,
            handshake=handshake,
            on_incident=on_incident,
        )

    @property
    def stats(self) -> VllmStats:
        """The counters, live."""
        self._stats.losses = self._fleet.losses
        self._stats.preemptions = self._fleet.preemptions
        return self._stats

    def generate(
        self, trajectory_id: str, token_ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        """Continue `token_ids`; closing the generator closes the connection, which aborts the request.

        Ids that fill the context already are answered by one empty chunk with reason `length`.
        Raises `EngineError`: at once for ids or parameters that cannot be used, from the generator
        if the server refuses the request, every server is given up, or the trajectory already has
        an open request.
        """
        check_request(token_ids, params, self.capabilities.vocab_size)
        return self._generate(trajectory_id, token_ids, params)

    async def _generate(
        self, trajectory_id: str, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        remaining = self.capabilities.context_length - len(ids)
        if remaining <= 0:
            yield Chunk((), (), FinishReason.LENGTH)
            return
        if any(
            isinstance(v, SamplingRequest) and v.trajectory_id == trajectory_id for v in self._open
        ):
            raise EngineError(f"{trajectory_id} already has an open request")
        sampling = SamplingRequest(
            self._fleet,
            self._config.silence_s,
            trajectory_id,
            ids,
            params,
            max_tokens=min(params.max_tokens, remaining),
            vocab_size=self.capabilities.vocab_size,
            candidates=self._candidates,
        )
        with self._tracked(sampling):
            while True:
                try:
                    chunks = await sampling.step()
                except Closing:
                    yield Chunk((), (), FinishReason.ABORT)
                    return
                for chunk in chunks:
                    self._stats.count(chunk)
                    yield chunk
                    if chunk.finish_reason is not None:
                        return

    async def stop_logits(self, prefixes: Sequence[tuple[str, Sequence[int]]]) -> list[float]:
        """The adapter's score (a logit) of each (trajectory id, ids), requested at the same time.

        Each goes to the server that holds the trajectory's prefix. Raises `EngineError`, or
        `ScorerError` if a server has no adapter.
        """
        if self._stop_ids is None:
            raise EngineError("the engine was opened without an adapter")
        jobs = [self._stop_logit(name, [*ids, *self._stop_ids]) for name, ids in prefixes]
        return await _all_of(jobs)

    async def _stop_logit(self, trajectory_id: str, ids: list[int]) -> float:
        request = self._request(trajectory_id, ids)
        with self._tracked(request):
            logprobs, prompt, cached = await complete(request, lambda client: client.score(ids))
        self._stats.scored += prompt
        self._stats.scored_cached += cached
        return read_logit(logprobs)

    async def prompt_logprobs(self, token_ids: Sequence[int]) -> list[float]:
        """Log-probability (nats) of each id given those before it; length `len(token_ids) - 1`.

        The server encodes every id again for it. Raises `EngineError`.
        """
        check_ids(token_ids, self.capabilities.vocab_size)
        ids = list(token_ids)
        if len(ids) == 1:
            return []
        request = self._request(None, ids)
        with self._tracked(request):
            return await complete(request, lambda client: client.prompt_logprobs(ids))

    async def release(self, trajectory_id: str) -> None:
        """Forget which server a trajectory was on; unknown ids are fine."""
        self._fleet.release(trajectory_id)

    async def aclose(self) -> None:
        """End every request with finish reason `abort`, then recoveries, connections and hosts.

        Calling it again does nothing.
        """
        if self._closed:
            return
        self._closed = self._fleet.is_closing = True
        for request in self._open:
            request.cancel_wait()
        await self._fleet.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _request(self, trajectory_id: str | None, ids: Sequence[int]) -> Request:
        """A request that samples one id; its prompt must leave one token of the context for it."""
        check_length(len(ids), self.capabilities.context_length, num_new=1)
        return Request(self._fleet, self._config.silence_s, trajectory_id, len(ids))

    @contextmanager
    def _tracked(self, request: V) -> Iterator[V]:
        if self._closed:
            raise EngineError("the engine is closed")
        self._open.add(request)
        try:
            yield request
        finally:
            self._open.discard(request)
            request.leave()
            self._stats.retries += request.retries


async def _all_of(jobs: Sequence[Coroutine[Any, Any, float]]) -> list[float]:
    """Every result, in order; the first failure ends the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
