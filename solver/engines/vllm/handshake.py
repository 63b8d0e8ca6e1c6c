"""Checks that a server is what this run needs, at its start and after each restart.

The checks use the requests that a run sends: the context length, the vocabulary, that log-probabilities
are the model's own, that prefixes are cached and, with an adapter, that the prefix stored with it gets
its stored score. A server that differs is refused with what to change.
"""

from __future__ import annotations

import asyncio
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from solver.adapter.spec import StopSpec
from solver.adapter.vllm.serving import read_logit
from solver.engines.vllm.answers import read_score
from solver.engines.vllm.bodies import score_body
from solver.engines.vllm.client import Client
from solver.engines.vllm.hosts import Say, ServerLost
from solver.errors import EngineError, ModelError, ScorerError
from solver.types import CANDIDATES

_CACHE_FLAGS = "--enable-prefix-caching --enable-prompt-tokens-details"
_LONGEST_PROMPT = 1024  # several blocks of any cache
_SHORT_PROMPT = 3  # lowest ids: never the [STOP] ids of an adapter, known to us or not
_CACHE_TRIES = 17  # each of a server's data-parallel engines has its own cache
_ROUNDING = 1e-3
_SAME_DRAW = 0.2  # nats between two computations of one log-probability, in bfloat16 too
_SIZE = re.compile(r"Vocabulary size: (\d+)")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the checks found; lengths in tokens. `capacity_tokens` is what the KV cache holds, if known."""

    model_name: str
    context_length: int
    capacity_tokens: int | None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run needs of every server.

    `context_length` is the configured one; `dtype` is `unknown` for attached servers; `adapter` is the
    folder of `spec`, and `stop_flags` are the flags that a server needs for it.
    """

    vocab_size: int
    limit_s: float
    dtype: str
    context_length: int | None = None
    adapter: Path | None = None
    spec: StopSpec | None = None
    stop_flags: tuple[str, ...] = ()

    @property
    def plain_ids(self) -> list[int]:
        """Ids for the checks' prompts: in the vocabulary, and none of the adapter's [STOP] ids."""
        reserved = self.spec.stop_token_ids if self.spec else ()
        return [i for i in range(min(self.vocab_size, _LONGEST_PROMPT)) if i not in reserved]


async def verify_server(client: Client, expected: Expected, say: Say) -> Facts:
    """Check the server. Raises `ModelError` if it does not fit, `ServerLost` if it does not answer."""
    try:
        async with asyncio.timeout(expected.limit_s):
            facts = await _facts(client, expected)
            await _check_vocabulary(client, expected)
            await _check_logprobs(client, expected)
            await _check_cache(client, expected, facts)
            if expected.spec is not None:
                await _check_score(client, expected, expected.spec, say)
            return facts
    except TimeoutError:
        raise ServerLost("the server does not answer its first requests") from None
    except ServerLost:
        raise
    except EngineError as error:
        raise ModelError(f"{client.url} cannot be used: {error}") from None


async def _facts(client: Client, expected: Expected) -> Facts:
    info = await client.model_info()
    wanted = expected.context_length or info.context_length
    if info.context_length < wanted:
        raise ModelError(
            f"{client.url} has a context of {info.context_length} tokens, this run needs {wanted}: "
            f"start it with --max-model-len {wanted}, or --set "
            f"model.context_length={info.context_length}"
        )
    return Facts(info.name, wanted, await client.capacity_tokens())


async def _check_vocabulary(client: Client, expected: Expected) -> None:
    """A logit bias for the last id is accepted, and one for the id after it is refused."""
    size = expected.vocab_size
    try:
        await _bias(client, expected, size - 1)
    except ServerLost:
        raise
    except EngineError as error:
        found = _SIZE.search(str(error))
        if found is None:
            raise
        raise _other_vocabulary(client, f"of {found[1]} ids", size) from None
    try:
        await _bias(client, expected, size)
    except ServerLost:
        raise
    except EngineError:
        return
    raise _other_vocabulary(client, f"of more than {size} ids", size)


async def _bias(client: Client, expected: Expected, token: int) -> None:
    body = score_body(expected.plain_ids[:1])
    await client.complete({**body, "logit_bias": {str(token): 0}})


def _other_vocabulary(client: Client, found: str, size: int) -> ModelError:
    return ModelError(
        f"{client.url} serves another model: its vocabulary is {found}, that of this run's model "
        f"folder has {size}; start the server with that folder"
    )


async def _check_logprobs(client: Client, expected: Expected) -> None:
    """As many as the solver asks for are returned, and they are the model's own, before top-k and so on."""
    body = {**score_body(expected.plain_ids[:_SHORT_PROMPT]), "logprobs": CANDIDATES}
    greedy, *_ = read_score(await client.complete(body))
    drawn, *_ = read_score(
        await client.complete({**body, "temperature": 1.0, "top_k": 1, "seed": 0})
    )
    best = max(greedy, key=lambda token: greedy[token])
    total = sum(math.exp(min(logprob, 1.0)) for logprob in greedy.values())
    if (
        len(greedy) < min(CANDIDATES, expected.vocab_size)
        or not total <= 1 + _ROUNDING
        or not abs(drawn.get(best, -math.inf) - greedy[best]) <= _SAME_DRAW
    ):
        raise ModelError(
            f"{client.url} does not return the model's own log-probabilities: start it without "
            "--logprobs-mode and --max-logprobs"
        )


async def _check_cache(client: Client, expected: Expected, facts: Facts) -> None:
    """A repeated prompt is found in the cache, and the server's usage says so."""
    ids = expected.plain_ids[: facts.context_length - 1]
    for _ in range(_CACHE_TRIES):
        _, _, cached = await client.score(ids)
        if cached:
            return
    raise ModelError(
        f"{client.url} does not cache prefixes, or does not say so: start it with {_CACHE_FLAGS}"
    )


async def _check_score(client: Client, expected: Expected, spec: StopSpec, say: Say) -> None:
    """The adapter reads the prefix stored with it as it did when it was saved."""
    stored = spec.handshake
    prefix: Sequence[int] = (
        stored.prefix_token_ids if stored else expected.plain_ids[:_SHORT_PROMPT]
    )
    remedy = f"start it with {shlex.join(expected.stop_flags)}"
    try:
        logprobs, *_ = await client.score([*prefix, *spec.stop_token_ids])
        logit = read_logit(logprobs)
    except ScorerError:
        raise ModelError(
            f"{client.url} serves no STOP adapter: install stop-solver beside its vLLM and {remedy}"
        ) from None
    if stored is None:
        say(
            f"{expected.adapter} stores no prefix to compare: the server returns a score, but whether "
            "it is the right one is not known"
        )
    elif not stored.agrees(logit, expected.dtype):
        raise ModelError(
            f"{client.url} scores the adapter's stored prefix {logit:.4f}, it was {stored.logit:.4f} "
            f"when {expected.adapter} was saved: another model, adapter or arithmetic; {remedy}"
        )
