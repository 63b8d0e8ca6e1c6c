"""Parses what a server returns: events of a stream, answers, errors, metrics. No IO.

Sampled ids are read from the `token_id:N` names of the log-probabilities.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solver.engines.vllm.hosts import ServerLost
from solver.errors import EngineError
from solver.types import CANDIDATES, TokenIds

_NAME = len("token_id:")
_RETRIED = frozenset({408, 425, 429})  # statuses below 500 after which the request may be repeated


@dataclass(frozen=True, slots=True)
class Piece:
    """One event: ids, their log-probabilities, and the server's finish reason if it is the last one."""

    token_ids: TokenIds
    logprobs: tuple[float, ...]
    finish: str | None
    confidences: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """How many ids the prompt had, and how many of them were cached (0 if the server does not say)."""

    prompt_tokens: int
    cached_tokens: int


def refusal(status: int, text: str) -> EngineError:
    """The error that an HTTP status other than 200 means: `ServerLost` where a retry makes sense."""
    try:
        message = str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = text.strip()[:500] or "no message"
    if status < 500 and status not in _RETRIED:
        return EngineError(f"the server refused the request ({status}): {message}")
    return ServerLost(f"status {status}: {message}")


class EventSplitter:
    """Cuts the bytes of a stream into events; `done` once the closing `[DONE]` has come."""

    def __init__(self) -> None:
        self.done = False
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:
        """The JSON of every event that is complete now. Raises `ServerLost` if it is no JSON."""
        *blocks, self._rest = (self._rest + data.replace(b"\r", b"")).split(b"\n\n")
        events = []
        for block in blocks:
            text = b"".join(
                line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:")
            )
            if text == b"[DONE]":
                self.done = True
            elif text:
                try:
                    events.append(json.loads(text))
                except ValueError:
                    raise ServerLost(f"an event is no JSON: {text[:80]!r}") from None
        return events


def read_event(event: Any, candidates: bool) -> Piece | Usage:
    """One event of a stream; `candidates` fills confidences and entropies.

    Raises `EngineError` if it reports an error, `ServerLost` if that error may be temporary or if it is
    no event at all.
    """
    try:
        if "error" in event:
            raise refusal(int(event["error"].get("code") or 500), json.dumps(event))
        if not event["choices"]:
            return read_usage(event)
        [choice] = event["choices"]
        said = choice["logprobs"]
        names, logprobs = said["tokens"], tuple(said["token_logprobs"])
        ids = tuple([int(name[_NAME:]) for name in names])
        if len(ids) != len(logprobs) or None in logprobs:
            raise ValueError("ids without log-probabilities")
        if not candidates:
            return Piece(ids, logprobs, choice["finish_reason"])
        described = [_describe(list(best.values())) for best in said["top_logprobs"]]
        confidences = tuple([confidence for confidence, _ in described])
        entropies = tuple([entropy for _, entropy in described])
        return Piece(ids, logprobs, choice["finish_reason"], confidences, entropies)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerLost(
            f"an event cannot be read ({error!r}): {json.dumps(event)[:200]}"
        ) from None


def _describe(logprobs: list[float]) -> tuple[float, float]:
    """Confidence and entropy of one draw from its candidates' log-probabilities (`solver.types.Chunk`).

    The server lists the sampled id besides the best 20, so there may be 21.
    """
    best = sorted(logprobs, reverse=True)[:CANDIDATES]
    weights = [math.exp(logprob) for logprob in best]
    total = sum(weights)
    mean = sum(w * logprob for w, logprob in zip(weights, best, strict=True)) / total
    return -sum(best) / len(best), math.log(total) - mean


def read_usage(answer: Any) -> Usage:
    """The usage of an event or a whole answer."""
    usage = answer["usage"]
    details = usage.get("prompt_tokens_details") or {}
    return Usage(int(usage["prompt_tokens"]), int(details.get("cached_tokens") or 0))


def read_score(answer: Any) -> tuple[dict[int, float], int, int]:
    """Log-probabilities by id, prompt tokens, cached tokens. Raises `ServerLost` if it is no answer."""
    try:
        [best] = answer["choices"][0]["logprobs"]["top_logprobs"]
        logprobs = {int(name[_NAME:]): float(logprob) for name, logprob in best.items()}
        usage = read_usage(answer)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ServerLost(f"the answer to a score request cannot be read: {error!r}") from None
    return logprobs, usage.prompt_tokens, usage.cached_tokens


def read_prompt_logprobs(answer: Any, ids: Sequence[int]) -> list[float]:
    """The log-probability of each id but the first. Raises `ServerLost` if it is no answer."""
    try:
        _, *places = answer["choices"][0]["prompt_logprobs"]
        pairs = zip(places, ids[1:], strict=True)
        return [float(place[str(token)]["logprob"]) for place, token in pairs]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ServerLost(
            f"the answer with prompt log-probabilities cannot be read: {error!r}"
        ) from None


def read_capacity(metrics: str) -> int | None:
    """Tokens that the KV caches of all the server's engines hold together, if its metrics say so."""
    capacity = 0
    for labels in re.findall(r"^vllm:cache_config_info\{(.*)\}", metrics, re.MULTILINE):
        known = dict(re.findall(r'(\w+)="(\d+)"', labels))
        if "kv_cache_size_tokens" in known:
            capacity += int(known["kv_cache_size_tokens"])
        elif "num_gpu_blocks" in known and "block_size" in known:
            capacity += int(known["num_gpu_blocks"]) * int(known["block_size"])
    return capacity or None
