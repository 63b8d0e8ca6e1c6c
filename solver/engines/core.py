"""The synchronous heart of the in-process engine: admit, feed, run one packed forward, sample.

It runs in one worker thread and knows nothing of asyncio: `turn` applies the commands that came in
since the last one, makes a step if there is anything to do, and returns what to tell whom.
"""

from __future__ import annotations

import math
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from solver.engines.cache import Cache
from solver.engines.packed import Plan, Span
from solver.engines.requests import FULL, Answer, Request, Want
from solver.engines.sampler import Draw, Sampler
from solver.errors import EngineError, named
from solver.types import Chunk, FinishReason, SamplingParams

PREFILL_TOKENS = 512  # ids encoded in one step, all rows together, so that decoding rows go on

Command = Callable[[], None]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine was made, and gauges of this moment, all in tokens unless noted.

    `prefilled`   ids given in requests that went through the model: prompts, tool output, and the
                  last id sampled before a pause, whose keys and values no step had computed yet
    `reused`      ids given in requests whose keys and values were already cached or were copied
    `re_encoded`  the part of `prefilled` that had been cached for the same trajectory and was lost
                  to the bound or to a failed step; without those it stays 0
    `decoded`     ids sampled
    `scratch`     ids encoded for `prompt_logprobs` and `probe`
    `evicted_pauses`  pauses (rows) dropped by the bound
    """

    prefilled: int
    reused: int
    re_encoded: int
    decoded: int
    scratch: int
    evicted_pauses: int
    waiting_requests: int
    running_rows: int
    decoding_rows: int
    paused_rows: int
    paused_tokens: int
    arena_cells: int


class Core:
    """Continuous batching over one model. Not thread-safe: one thread at a time may call it."""

    def __init__(self, model: Any, cache: Cache, context_length: int) -> None:
        """`model` is a causal language model whose attention is `packed_attention`."""
        self.cache = cache
        self._base, self._head = model.base_model, model.get_output_embeddings()
        config = model.config
        self._vocab_size: int = config.vocab_size
        self._groups: int = config.num_attention_heads // config.num_key_value_heads
        self._context_length = context_length
        self.asks = False  # whether pauses are lost only where `answered` has allowed it
        self._asked: Request | None = None
        self._waiting: deque[Request] = deque()
        self._answers: list[tuple[Request, Answer]] = []
        self._sampler = Sampler([], self._vocab_size, cache.arena.shape.device)
        self._prefilled = self._reused = self._decoded = self._scratch = 0

    @property
    def busy(self) -> bool:
        """Whether another turn would do something."""
        return bool(self.cache.live or (self._waiting and self._asked is None))

    @property
    def stats(self) -> EngineStats:
        """A snapshot of the counters."""
        cache = self.cache
        return EngineStats(
            prefilled=self._prefilled,
            reused=self._reused,
            re_encoded=cache.re_encoded,
            decoded=self._decoded,
            scratch=self._scratch,
            evicted_pauses=cache.evicted_pauses,
            waiting_requests=len(self._waiting),
            running_rows=len(cache.live),
            decoding_rows=cache.num_decoding,
            paused_rows=len(cache.pauses),
            paused_tokens=cache.paused_tokens,
            arena_cells=cache.arena.cells,
        )

    def add(self, request: Request) -> None:
        """Queue a request."""
        longest = request.given + (request.params.max_tokens if request.params else 0)
        request.reserve = min(longest, self._context_length)
        self._waiting.append(request)

    def cancel(self, request: Request) -> None:
        """End a request without an answer; its cache is kept. Ended requests are fine."""
        if self._asked is request:
            self._asked = None
        if request.slot >= 0:
            self.cache.retire(request)
        elif request in self._waiting:
            self._waiting.remove(request)

    def answered(self, request: Request, may_evict: bool) -> None:
        """What a request was told that was answered by `FULL`; if not, room has been made."""
        request.may_evict = may_evict
        self._asked = None

    def turn(self, commands: Iterable[Command]) -> list[tuple[Request, Answer]]:
        """Apply `commands`, make one step, return the answers. A failure fails what was running."""
        self._answers = []
        with torch.inference_mode():
            for job in (*commands, self._work):
                try:
                    job()
                except Exception as error:
                    self._fail(error)
        return self._answers

    def _work(self) -> None:
        self._admit()
        feeds = self._feeds()
        if feeds:
            self._step(feeds)

    def _fail(self, error: Exception) -> None:
        """Answer everything that runs with an error, so that nobody waits for ever."""
        traceback.clear_frames(error.__traceback__)  # they hold the step's tensors
        reason = named(error).splitlines()[0]
        failed = self.cache.drop_live()
        if not failed and self._waiting:  # it happened while the first of them was looked at
            failed = [self._waiting.popleft()]
        for request in failed:
            failure = EngineError(f"the step of {request.trajectory_id} failed: {reason}")
            failure.__cause__ = error
            self._answers.append((request, failure))

    def _admit(self) -> None:
        """Give waiting requests a row, first come first served; followers let others pass."""
        for request in tuple(self._waiting):
            if request.follows:
                continue
            if not self.cache.fits(request):
                break
            if self._waits_for_room(request):
                continue
            match = self.cache.match(request)
            request.leader, request.shared = match.leader, match.shared
            if match.leader is None:
                self._waiting.remove(request)
                self.cache.admit(request, match)
                if request.want is Want.TOKENS:
                    self._reused += request.reused

    def _waits_for_room(self, request: Request) -> bool:
        """Whether a pause would be lost that need not be: rows that run leave room, or one is asked."""
        if not self.asks or request.want is not Want.TOKENS or not self.cache.crowded(request):
            return False
        if self.cache.live:
            return True
        if self._asked is None and not request.may_evict:
            self._asked = request
            self._answers.append((request, FULL))
        return not request.may_evict

    def _feeds(self) -> list[tuple[Request, Span]]:
        """What to feed: one id of every decoding row, then the others by age within the budget."""
        live, decoding = self.cache.live, self.cache.num_decoding
        feeds = [(row, Span(row.slot, row.length, row.ids[-1:])) for row in live[:decoding]]
        budget = PREFILL_TOKENS
        for row in sorted(live[decoding:], key=lambda row: row.serial):
            ids = row.ids[row.length : row.length + budget]
            if ids:
                feeds.append((row, Span(row.slot, row.length, ids)))
                budget -= len(ids)
        return feeds

    def _step(self, feeds: Sequence[tuple[Request, Span]]) -> None:
        spans = [span for _, span in feeds]
        longest = max(span.end for span in spans)
        if longest > self.cache.arena.capacity:
            self.cache.make_room(longest)
        decoding = self.cache.num_decoding
        plan = Plan(self.cache.arena, spans[:decoding], spans[decoding:], self._groups)
        hidden: Tensor = self._base(
            input_ids=plan.input_ids, position_ids=plan.position_ids, use_cache=False, plan=plan
        ).last_hidden_state[0]

        sampling: list[tuple[Request, int]] = []  # rows to sample, and where their last id lies
        states: list[tuple[Request, int]] = []
        offset = 0
        for request, span in feeds:
            self._count(request, span)
            request.length = span.end
            if request.want is Want.LOGPROBS:
                self._read_logprobs(request, span, hidden[offset : offset + len(span.ids)])
            elif request.pending == 0:
                done = sampling if request.want is Want.TOKENS else states
                done.append((request, offset + len(span.ids) - 1))
            offset += len(span.ids)
        if states:
            self._read_states(states, hidden)
        if sampling:
            self._sample(sampling, hidden)

    def _count(self, request: Request, span: Span) -> None:
        if request.want is Want.TOKENS:
            self._prefilled += max(0, min(span.end, request.given) - span.start)
        else:
            self._scratch += len(span.ids)

    def _read_logprobs(self, request: Request, span: Span, hidden: Tensor) -> None:
        following = request.ids[span.start + 1 : span.end + 1]
        if following:  # none behind the last id
            logprobs = self._head(hidden[: len(following)]).float().log_softmax(-1)
            targets = torch.tensor(following, device=hidden.device)[:, None]
            request.logprobs += logprobs.gather(1, targets)[:, 0].tolist()
        if request.pending == 0:
            self.cache.retire(request)
            self._answers.append((request, request.logprobs))

    def _read_states(self, states: Sequence[tuple[Request, int]], hidden: Tensor) -> None:
        rows = hidden[[place for _, place in states]].float().cpu()
        for (request, _), row in zip(states, rows, strict=True):
            self.cache.retire(request)
            self._answers.append((request, row))

    def _sample(self, sampling: Sequence[tuple[Request, int]], hidden: Tensor) -> None:
        if len(sampling) < len(hidden):
            hidden = hidden[[place for _, place in sampling]]
        sampler = self._sampler_for([_params(request) for request, _ in sampling])
        positions = [len(request.ids) for request, _ in sampling]
        drawn = sampler.sample(self._head(hidden), positions)
        for (request, _), draw in zip(sampling, drawn, strict=True):
            if math.isfinite(draw.logprob):
                self._extend(request, draw)
            else:
                self.cache.discard(request)
                self._answers.append(
                    (request, EngineError(f"{request.trajectory_id}: the logits are not finite"))
                )
        self._decoded += len(sampling)

    def _sampler_for(self, params: list[SamplingParams]) -> Sampler:
        known = self._sampler.params
        if len(params) != len(known) or any(a is not b for a, b in zip(params, known, strict=True)):
            self._sampler = Sampler(params, self._vocab_size, self.cache.arena.shape.device)
        return self._sampler

    def _extend(self, request: Request, draw: Draw) -> None:
        params, token = _params(request), draw.token
        first = len(request.ids) == request.given
        request.ids.append(token)
        finish = None
        if token in params.stop_token_ids:
            finish = FinishReason.STOP
        elif len(request.ids) >= request.reserve:
            finish = FinishReason.LENGTH
        if finish is not None:
            self.cache.retire(request)
        elif first:
            self.cache.promote(request)
        reused = request.reused if first else 0
        encoded = request.given - request.reused if first else 0
        told = (draw.confidence,), (draw.entropy,)
        chunk = Chunk((token,), (draw.logprob,), finish, reused, encoded, *told)
        self._answers.append((request, chunk))


def _params(request: Request) -> SamplingParams:
    assert request.params is not None, "only TOKENS requests are sampled"
    return request.params
