"""HTTP to one vLLM server: one connection for each request, no timeouts of its own.

A connection is never used twice: opening one on loopback costs little, and a request then never meets a
connection that the server is just closing. The caller bounds the wait.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp

from solver.engines.vllm.answers import (
    EventSplitter,
    Piece,
    Usage,
    read_capacity,
    read_event,
    read_prompt_logprobs,
    read_score,
    refusal,
)
from solver.engines.vllm.bodies import Body, prompt_body, score_body
from solver.engines.vllm.hosts import ServerLost
from solver.errors import EngineError

_COMPLETIONS = "/v1/completions"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that a server serves: its name, its folder or repository, its context in tokens."""

    name: str
    root: str
    context_length: int


class Stream:
    """The answer to a streamed request. `close` may be called at any time, by anyone, more than once."""

    def __init__(self, response: aiohttp.ClientResponse, candidates: bool) -> None:
        self._response, self._candidates = response, candidates
        self._splitter = EventSplitter()

    async def read(self) -> list[Piece | Usage] | None:
        """The events since the last call, waiting for at least one; None after the last event.

        A cancelled `read` loses nothing. Raises `EngineError`, or `ServerLost` if the stream is cut.
        """
        if self._splitter.done:
            return None
        with _lost_if_broken():
            data = await self._response.content.readany()
        if not data:
            raise ServerLost("the stream ended in the middle")
        events = self._splitter.feed(data)
        return [read_event(event, self._candidates) for event in events]

    def close(self) -> None:
        """Close the connection at once: the server aborts the request within a step."""
        self._response.close()


class Client:
    """One server's endpoints. Every method raises `ServerLost` if the server fails."""

    def __init__(self, url: str, model: str | None = None) -> None:
        """`model` is the name to ask for; None takes what the server serves."""
        self.url = url.rstrip("/")
        self._model = model
        self._session: aiohttp.ClientSession | None = None

    async def healthy(self, timeout_s: float) -> bool:
        """Whether the server says that it is ready, within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._text("GET", "/health")
        except (TimeoutError, EngineError):
            return False
        return True

    async def answers(self, timeout_s: float) -> bool:
        """Whether the server completes one token within `timeout_s`, which its HTTP alone cannot do."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.complete({"prompt": [0], "max_tokens": 1, "temperature": 0})
        except (TimeoutError, EngineError):
            return False
        return True

    async def model_info(self) -> ModelInfo:
        """The model that is asked for, or the first that is served. Raises `EngineError`."""
        answer = _json(await self._text("GET", "/v1/models"))
        try:
            served = [
                ModelInfo(card["id"], card.get("root") or card["id"], int(card["max_model_len"]))
                for card in answer["data"]
                if not card.get("parent")  # an adapter is no model
            ]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EngineError(f"{self.url} does not say what it serves: {error!r}") from None
        for info in served:
            if self._model in (None, info.name):
                return info
        names = ", ".join(info.name for info in served) or "nothing"
        raise EngineError(f"{self.url} does not serve {self._model}: it serves {names}")

    async def capacity_tokens(self) -> int | None:
        """Tokens that its KV cache holds; None if its metrics do not say."""
        try:
            return read_capacity(await self._text("GET", "/metrics"))
        except ServerLost:
            raise
        except EngineError:  # no such page
            return None

    async def complete(self, body: Body) -> Any:
        """The JSON answer to a body that is not streamed. Raises `EngineError`."""
        return _json(await self._text("POST", _COMPLETIONS, body))

    async def score(self, ids: Sequence[int]) -> tuple[dict[int, float], int, int]:
        """After `ids`: log-probabilities of the likeliest, by id; prompt tokens; how many were cached."""
        return read_score(await self.complete(score_body(ids)))

    async def prompt_logprobs(self, ids: Sequence[int]) -> list[float]:
        """Log-probability (nats) of each id but the first, given those before it."""
        return read_prompt_logprobs(await self.complete(prompt_body(ids)), ids)

    async def stream(self, body: Body, candidates: bool = False) -> Stream:
        """Send a streamed request; the caller closes what comes back. Raises `EngineError`."""
        with _lost_if_broken():
            response = await self._send("POST", _COMPLETIONS, body)
            try:
                if response.status != 200:
                    raise refusal(response.status, await response.text(errors="replace"))
            except BaseException:
                response.close()
                raise
        return Stream(response, candidates)

    async def aclose(self) -> None:
        """Close every connection. Calling it again does nothing."""
        if self._session is not None:
            await self._session.close()

    async def _text(self, method: str, path: str, body: Body | None = None) -> str:
        with _lost_if_broken():
            response = await self._send(method, path, body)
            try:
                text = await response.text(errors="replace")
            finally:
                response.close()
        if response.status != 200:
            raise refusal(response.status, text)
        return text

    async def _send(
        self, method: str, path: str, body: Body | None = None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                json_serialize=partial(json.dumps, separators=(",", ":")),
                headers={"Accept-Encoding": "identity"},
            )
        if body is not None and self._model is not None:
            body = {"model": self._model, **body}
        return await self._session.request(
            method, self.url + path, json=body, allow_redirects=False
        )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ServerLost(f"an answer is no JSON: {text[:80]!r}") from None


@contextmanager
def _lost_if_broken() -> Iterator[None]:
    """Turn every failure of a connection into `ServerLost`."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise ServerLost(f"cannot connect: {error.os_error.strerror}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ServerLost(str(error) or type(error).__name__) from None
