"""The in-process engine: a transformers model behind the `Engine` port, by continuous batching.

One worker thread makes one step after the other while there is something to do; requests join and
leave between steps, by commands that the event loop queues and the worker takes. While an engine is
open its model's attention is ours: close it before training the model or calling its `generate`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from solver.config import ModelConfig
from solver.engines.arena import BLOCK
from solver.engines.cache import Cache
from solver.engines.core import Command, Core, EngineStats
from solver.engines.int8 import is_int8
from solver.engines.loading import (
    cache_shape,
    check_architecture,
    default_max_tokens,
    load_model,
)
from solver.engines.packed import ATTENTION
from solver.engines.refusals import check_ids, check_length, check_request
from solver.engines.requests import FULL, Answer, Request, Want
from solver.errors import EngineError
from solver.ports import EngineCapabilities
from solver.types import Chunk, FinishReason, SamplingParams


def load(config: ModelConfig) -> TransformersEngine:
    """Load the model in the local folder `config.path` and open an engine on it.

    `config.threads` sets torch's CPU threads for the whole process. Raises `ModelError`.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    model = load_model(config)
    return TransformersEngine(
        model,
        name=config.path,
        context_length=config.context_length,
        max_cached_tokens=config.max_cached_tokens,
    )


class TransformersEngine:
    """Samples from a causal language model in this process, for one event loop.

    A request's first chunk says how many of its ids were cached (`reused_tokens`: its own pause or
    a prefix copied from another trajectory) and how many went through the model (`encoded_tokens`,
    the rest). The last id sampled before a pause is never cached, because only feeding it computes
    its keys and values, so a request that resumes encodes that id and what follows it; ids encoded
    a second time are counted apart, in `stats.re_encoded`.

    The model is called as `model.base_model(input_ids=[1, tokens],
    position_ids=[1, tokens], ...)` with the packed ids of each step, so an adapter gated by token
    id can hook that forward.
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str = "",
        context_length: int | None = None,
        max_cached_tokens: int | None = None,
    ) -> None:
        """Open an engine on a loaded model in eval mode; raises `ModelError` if it cannot be served.

        `max_cached_tokens` bounds the memory of the cache (`cache.py`); a sequence must fit into it,
        so it also bounds the context length. Default: half of the free RAM, or 0.8 of the GPU's.
        """
        length = check_architecture(model.config, context_length)
        shape = cache_shape(model)
        bound = max_cached_tokens or default_max_tokens(shape)
        bound = max(BLOCK, bound // BLOCK * BLOCK)
        self.capabilities = EngineCapabilities(
            name="transformers",
            model=name or model.config.model_type,
            context_length=min(length, bound),
            vocab_size=model.config.vocab_size,
            device=str(shape.device),
            dtype="int8" if is_int8(model) else str(shape.dtype).removeprefix("torch."),
        )
        self.model = model  # for adapters, which hook its forward; its weights stay as they are
        self._core = Core(model, Cache(shape, bound), self.capabilities.context_length)
        self._commands: deque[Command] = deque()
        self._open: set[Request] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._relieve: Callable[[str], Awaitable[bool]] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._former_attention: str = model.config._attn_implementation
        model.set_attn_implementation(ATTENTION)

    @property
    def stats(self) -> EngineStats:
        """Counters and gauges; a consistent set of them while no step is running."""
        return self._core.stats

    def ask_when_full(self, relieve: Callable[[str], Awaitable[bool]]) -> None:
        """Have `relieve` release a trajectory before a paused one loses its cache, or say that one may."""
        self._relieve = relieve
        self._core.asks = True

    def generate(
        self, trajectory_id: str, token_ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        """Continue `token_ids`, one id a chunk; closing the generator frees its row within a step.

        Ids that fill the context already are answered by one empty chunk with reason `length`.
        Raises `EngineError`: at once for ids or parameters that cannot be used, from the generator
        if a step fails or the trajectory already has an open request.
        """
        check_request(token_ids, params, self.capabilities.vocab_size)
        if len(params.banned_token_ids) >= self.capabilities.vocab_size:
            raise EngineError("every id of the vocabulary is banned")
        return self._generate(trajectory_id, list(token_ids), params)

    async def _generate(
        self, trajectory_id: str, ids: list[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        if len(ids) >= self.capabilities.context_length:
            yield Chunk((), (), FinishReason.LENGTH)
            return
        if any(r.want is Want.TOKENS and r.trajectory_id == trajectory_id for r in self._open):
            raise EngineError(f"{trajectory_id} already has an open request")
        request = Request(trajectory_id, ids, Want.TOKENS, params)
        self._submit(request)
        try:
            while True:
                answer = await request.outbox.get()
                if isinstance(answer, EngineError):
                    raise answer
                if answer is FULL:
                    assert self._relieve is not None
                    may_evict = not await self._relieve(trajectory_id)
                    self._command(partial(self._core.answered, request, may_evict))
                    continue
                assert isinstance(answer, Chunk)
                yield answer
                if answer.finish_reason is not None:
                    return
        finally:
            self._withdraw(request)

    async def prompt_logprobs(self, token_ids: Sequence[int]) -> list[float]:
        """Log-probability (nats) of each id given those before it; length `len(token_ids) - 1`.

        Nothing is read from or left in the cache. Raises `EngineError`.
        """
        check_ids(token_ids, self.capabilities.vocab_size)
        if len(token_ids) == 1:
            return []
        [answer] = await self._ask(Want.LOGPROBS, [("prompt", token_ids)])
        return list(answer)

    async def probe(
        self, prefixes: Sequence[tuple[str, Sequence[int]]], suffix_ids: Sequence[int]
    ) -> Tensor:
        """Hidden states after `suffix_ids` put behind each (trajectory id, ids) prefix.

        Returns `[prefixes, hidden]`, float32 on the CPU: the last layer's output after the final
        norm, at the last suffix id, or without a suffix at the last id. What is cached of a prefix is
        copied, the rest and the suffix go into a scratch row, all prefixes together; rows and pauses are
        not changed by it. Raises `EngineError`.
        """
        known = self.capabilities.vocab_size
        for ids in (*([suffix_ids] if suffix_ids else []), *(ids for _, ids in prefixes)):
            check_ids(ids, known)
        asked = [(name, [*ids, *suffix_ids]) for name, ids in prefixes]
        answers = await self._ask(Want.STATE, asked)
        if not answers:
            return torch.empty(0, self.model.config.hidden_size)
        return torch.stack(answers)

    async def release(self, trajectory_id: str) -> None:
        """Forget the cache of a trajectory; unknown ids are fine."""
        self._command(partial(self._core.cache.release, trajectory_id))

    async def aclose(self) -> None:
        """End every request with finish reason `abort`, free the cache, give the model back.

        The step that is running is waited for. Calling it again does nothing.
        """
        self._closed = True
        self._wake.set()
        if self._task is not None and not self._task.done():  # done, if the event loop ended first
            await asyncio.wait([self._task])
        self._worker.shutdown()
        self._core.cache.clear()
        if self.model.config._attn_implementation == ATTENTION:
            self.model.set_attn_implementation(self._former_attention)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _ask(self, want: Want, asked: Sequence[tuple[str, Sequence[int]]]) -> list[Any]:
        """Submit scratch requests together and wait for all of their answers."""
        longest = max((len(ids) for _, ids in asked), default=0)
        check_length(longest, self.capabilities.context_length)
        requests = [Request(name, list(ids), want) for name, ids in asked]
        try:
            for request in requests:
                self._submit(request)
            answers = [await request.outbox.get() for request in requests]
        finally:
            for request in requests:
                self._withdraw(request)
        for answer in answers:
            if isinstance(answer, EngineError):
                raise answer
        return answers

    def _submit(self, request: Request) -> None:
        if self._closed:
            raise EngineError("the engine is closed")
        self._open.add(request)
        self._command(partial(self._core.add, request))

    def _withdraw(self, request: Request) -> None:
        if request in self._open:  # not answered to its end
            self._open.remove(request)
            self._command(partial(self._core.cancel, request))

    def _command(self, command: Command) -> None:
        """Have the worker do something before its next step."""
        if self._closed:
            return
        self._commands.append(command)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="engine")

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self._closed:
                if not self._commands and not self._core.busy:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                await loop.run_in_executor(self._worker, self._drive, loop)
        finally:  # also when the event loop ends first: the engine does not outlive it
            self._closed = True
            self._end_open()

    def _drive(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the worker thread: step until there is nothing to do, one wake-up of the loop a step."""
        while not self._closed and (self._commands or self._core.busy):
            commands = [self._commands.popleft() for _ in range(len(self._commands))]
            answers = self._core.turn(commands)
            if answers:
                loop.call_soon_threadsafe(self._deliver, answers)

    def _deliver(self, answers: list[tuple[Request, Answer]]) -> None:
        for request, answer in answers:
            is_last = answer.finish_reason is not None if isinstance(answer, Chunk) else True
            if is_last and answer is not FULL:
                self._open.discard(request)
            request.outbox.put_nowait(answer)

    def _end_open(self) -> None:
        """Answer every open request for the last time, so that nobody waits for ever."""
        for request in self._open:
            if request.want is Want.TOKENS:
                request.outbox.put_nowait(Chunk((), (), FinishReason.ABORT))
            else:
                request.outbox.put_nowait(EngineError("the engine is closing"))
        self._open.clear()
