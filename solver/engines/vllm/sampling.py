"""One sampling request, over as many servers and attempts as it takes.

Ids that were received are kept: the next attempt begins with them. Draws depend on the seed and on the
position where the attempt began, so an interrupted request goes on with other draws than without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from solver.engines.vllm.answers import Piece, Usage
from solver.engines.vllm.bodies import sampling_body
from solver.engines.vllm.client import Stream
from solver.engines.vllm.fleet import Fleet
from solver.engines.vllm.hosts import ServerLost
from solver.engines.vllm.request import Request
from solver.engines.vllm.waiting import WaitCancelled
from solver.types import Chunk, FinishReason, SamplingParams


class SamplingRequest(Request):
    """Samples up to `max_tokens` more ids; `step` until a chunk has a finish reason, then `leave`."""

    def __init__(
        self,
        fleet: Fleet,
        silence_s: float,
        trajectory_id: str,
        ids: Sequence[int],
        params: SamplingParams,
        *,
        max_tokens: int,
        vocab_size: int,
        candidates: bool,
    ) -> None:
        super().__init__(fleet, silence_s, trajectory_id, len(ids))
        self.slot.preempt = self.cancel_wait
        self._ids, self._params, self._left = list(ids), params, max_tokens
        self._vocab_size, self._candidates = vocab_size, candidates
        self._stream: Stream | None = None
        self._begun_at = len(ids)  # length of the attempt's prompt
        self._last: Chunk | None = None  # held back until the stream's usage event has come
        self._usage: Usage | None = None
        self._broken: str | None = None

    def cancel_wait(self) -> None:
        """As `Waiter.cancel_wait`, and close the stream, so that the server stops sampling at once."""
        super().cancel_wait()
        self._close_stream()

    def leave(self) -> None:
        """As `Request.leave`; the server aborts the request within a step."""
        super().leave()
        self._close_stream()
        self._last = self._usage = self._broken = None

    async def step(self) -> list[Chunk]:
        """The next chunks; an empty list if the request has to begin another attempt.

        Raises `EngineError`; `Closing` if the engine is being closed.
        """
        try:
            try:
                if self._stream is None:
                    await self._begin()
                return await self._read()
            except ServerLost as error:
                if self._last is None:
                    await self.failed(error)
        except WaitCancelled:
            if self._last is None:
                self.handle_cancelled_wait()
        return [] if self._last is None else [self._end()]

    async def _begin(self) -> None:
        if self.server is None:
            await self.acquire()
        assert self.server is not None
        self._begun_at = len(self._ids)
        body = sampling_body(
            self._ids, self._params, self._left, self._vocab_size, self._candidates
        )
        client, since = self.server.client, asyncio.get_running_loop().time()
        try:
            async with self.within(self.silence_s):
                self._stream = await client.stream(body, self._candidates)
        except TimeoutError:
            await self._lost_unless_working(since)

    async def _read(self) -> list[Chunk]:
        if self._stream is None:
            return []
        if self._broken is not None:
            raise ServerLost(self._broken)
        since = asyncio.get_running_loop().time()
        try:
            async with self.within(self.silence_s):
                events = await self._stream.read()
        except TimeoutError:
            if self._last is None:
                await self._lost_unless_working(since)
                return []
            events = None
        if events is None:
            return [self._end()]
        pieces = []
        for event in events:
            if isinstance(event, Usage):
                self._usage = event
            else:
                pieces.append(event)
        return [chunk for piece in pieces if (chunk := self._take(piece)) is not None]

    async def _lost_unless_working(self, since: float) -> None:
        if not await self.check_works(since):
            raise ServerLost("silent")

    def _take(self, piece: Piece) -> Chunk | None:
        """The chunk of a piece; None if it is empty, or the last one, which is held for the usage."""
        number = len(piece.token_ids)
        chunk = Chunk(
            piece.token_ids,
            piece.logprobs,
            confidences=piece.confidences,
            entropies=piece.entropies,
        )
        if number:
            self._ids += piece.token_ids
            self._left -= number
            self.record_progress()
            assert self.server is not None
            self.server.admission.grow(self.slot, number)
        if piece.finish is None:
            return chunk if number else None
        reason = self._reason(piece.finish)
        if reason is None:
            self._broken = f"it ended the request for a reason of its own: {piece.finish}"
            return chunk if number else None
        self._last = replace(chunk, finish_reason=reason)
        return None

    def _reason(self, finish: str) -> FinishReason | None:
        """The finish reason in our terms; None if the request has to go on.

        A server may have stop ids of its own; a request that ended at one of those goes on.
        """
        if finish == "stop" and self._ids[-1] in self._params.stop_token_ids:
            return FinishReason.STOP
        return FinishReason.LENGTH if finish == "length" or self._left <= 0 else None

    def _end(self) -> Chunk:
        if self._last is None:
            raise ServerLost("the stream ended without a finish reason")
        usage = self._usage or Usage(self._begun_at, 0)
        return replace(
            self._last,
            reused_tokens=usage.cached_tokens,
            encoded_tokens=usage.prompt_tokens - usage.cached_tokens,
        )

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
