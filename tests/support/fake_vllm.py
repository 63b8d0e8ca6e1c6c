"""A scripted server that speaks HTTP as vLLM does, and misbehaves when told to.

It answers /health, /v1/models, /metrics and /v1/completions. What it samples depends on the ids so far
alone, with temperature 0, else on the ids and the seed.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

VOCAB, CONTEXT = 199, 4096
STOP_IDS = (190, 191)
_HEAD = "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{rest}\r\n"


def next_id(ids: Sequence[int], seed: int | None) -> int:
    """What is sampled after `ids`; never one of the last nine, which tests use for stop ids."""
    return random.Random(f"{list(ids)} {seed}").randrange(VOCAB - 9)


def continuation(ids: Sequence[int], count: int) -> list[int]:
    """What is sampled greedily after `ids`."""
    said = list(ids)
    for _ in range(count):
        said.append(next_id(said, None))
    return said[len(ids) :]


def logprob(ids: Sequence[int], token: int) -> float:
    return -random.Random(f"{list(ids)} {token}").random()


def score(prefix: Sequence[int]) -> float:
    return random.Random(f"{list(prefix)}").uniform(-5, 5)


@dataclass
class Fault:
    """What a request meets after `after` ids; see `FakeServer._strike`."""

    kind: str
    after: int = 0


@dataclass(eq=False)
class FakeServer:
    """`faults` are met by the next sampling requests, one each; clearing `thawed` silences everything.

    Without `admits` it answers probes and gives no other request a token, until it is restarted.
    `score` is what its STOP plugin gives a prefix, None without a plugin; `capacity` is in tokens.
    """

    name: str = "fake"
    vocab_size: int = VOCAB
    context_length: int = CONTEXT
    stop_token_ids: tuple[int, ...] = STOP_IDS
    score: Callable[[Sequence[int]], float] | None = score
    on_request: Callable[[int], None] = lambda count: (
        None
    )  # told how many completions were asked for
    delay_s: float = 0.0
    admits: bool = True
    capacity: int | None = None
    cards: list[Any] | None = None  # what it says that it serves; None: the truth
    caches: bool = True
    cached_details: bool = True
    own_logprobs: bool = True  # the model's, before top-k and so on
    own_stop_ids: frozenset[int] = frozenset()
    faults: deque[Fault | None] = field(default_factory=deque)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    usage_fault: Fault | None = None  # met between the last id and the usage
    asked: int = 0
    probes: int = 0
    aborted: int = 0
    connections: int = 0
    open_connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self.thawed = asyncio.Event()
        self.thawed.set()
        self._cache: list[list[int]] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def crash(self) -> None:
        """Every connection is reset, nobody answers any more, the cache is lost."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._cache.clear()
        self.in_flight = 0

    async def restart(self) -> None:
        self.admits = True
        self.thawed.set()
        await self.crash()
        await self.start()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            while True:  # as a real server, it is ready for another request on the connection
                await self._answer(reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = [
            line.split(":")[1] for line in head.split("\r\n") if "content-length" in line.lower()
        ]
        body = json.loads(await reader.readexactly(int(length[0]))) if length else {}
        await self.thawed.wait()
        path = head.split()[1]
        if path == "/v1/completions":
            await self._complete(body, reader, writer)
        elif path == "/v1/models":
            card = {"id": self.name, "max_model_len": self.context_length}
            self._say(writer, {"data": [card] if self.cards is None else self.cards})
        elif path == "/metrics" and self.capacity is not None:
            info = (
                f'vllm:cache_config_info{{block_size="1",kv_cache_size_tokens="{self.capacity}"}} 1'
            )
            self._say(writer, f"# HELP\n{info}\n")
        elif path == "/health":
            self._say(writer, "")
        else:
            self._say(writer, {"error": {"message": f"no {path}"}}, 404)

    def _say(self, writer: asyncio.StreamWriter, answer: Any, status: int = 200) -> None:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        rest = f"content-length: {len(text)}\r\n"
        writer.write((_HEAD.format(status=status, kind="x/y", rest=rest) + text).encode())

    async def _complete(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked += 1
        self.on_request(self.asked)
        ids = body["prompt"]
        if refusal := self._refusal(body):
            return self._say(writer, {"error": {"message": refusal, "code": 400}}, 400)
        if len(ids) == 1 and body["max_tokens"] == 1 and not body.get("stream"):
            self.probes += 1
            if self.faults and self.faults[0] is not None and self.faults[0].kind == "dead":
                return self._say(writer, {"error": {"message": "EngineDeadError"}}, 500)
            return self._say(writer, {})
        if not self.admits:
            await asyncio.Event().wait()
        self.bodies.append(body)
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and fault.kind.isdigit():
            return self._say(writer, {"error": {"message": "not now"}}, int(fault.kind))
        if not body.get("stream"):
            if fault is not None and fault.kind == "slow":
                await asyncio.sleep(0.2)
            elif fault is not None:
                await self._strike(fault, writer)
                return None
            return self._say(writer, self._whole(body))
        return await self._stream(body, fault, reader, writer)

    def _refusal(self, body: dict[str, Any]) -> str | None:
        for token in map(int, body.get("logit_bias", {})):
            if token >= self.vocab_size:
                return (
                    f"token_id(s) [{token}] in logit_bias contain out-of-vocab token ids."
                    f" Vocabulary size: {self.vocab_size}"
                )
        highest = max(body["prompt"])
        return f"{highest} is out of vocabulary" if highest >= self.vocab_size else None

    def _whole(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = body["prompt"]
        choice: dict[str, Any] = {"finish_reason": "length"}
        if "prompt_logprobs" in body:
            choice["prompt_logprobs"] = [None] + [
                {str(token): {"logprob": logprob(ids[:place], token)}}
                for place, token in enumerate(ids)
                if place
            ]
        else:
            choice["logprobs"] = {"top_logprobs": [self._best(body)]}
        usage = self._usage(ids, 1)
        self._cache.append(ids)
        return {"choices": [choice], "usage": usage}

    def _best(self, body: dict[str, Any]) -> dict[str, float]:
        ids, stop = body["prompt"], self.stop_token_ids
        if self.score is not None and tuple(ids[-len(stop) :]) == stop:
            logit = self.score(ids[: -len(stop)])
            total = math.log1p(math.exp(logit))
            return {"token_id:0": -total, "token_id:1": logit - total}
        if body["temperature"] > 0 and not self.own_logprobs:  # what is left after top-k
            return {f"token_id:{i}": -9999.0 if i else 0.0 for i in range(body["logprobs"])}
        return {f"token_id:{i}": -1.0 - 0.5 * i for i in range(body["logprobs"])}

    def _usage(self, ids: list[int], completion: int) -> dict[str, Any]:
        usage: dict[str, Any] = {"prompt_tokens": len(ids), "completion_tokens": completion}
        if self.cached_details:
            usage["prompt_tokens_details"] = {"cached_tokens": self._cached(ids)}
        return usage

    def _cached(self, ids: list[int]) -> int:
        best = 0
        for known in self._cache if self.caches else ():
            same = 0
            while same < min(len(known), len(ids) - 1) and known[same] == ids[same]:
                same += 1
            best = max(best, same)
        return best

    async def _stream(
        self,
        body: dict[str, Any],
        fault: Fault | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        ids, given = list(body["prompt"]), len(body["prompt"])
        gone = asyncio.create_task(reader.read(1), name="fake")
        usage = self._usage(ids, 0)
        self._hold(given)
        writer.write(
            _HEAD.format(
                status=200, kind="text/event-stream", rest="transfer-encoding: chunked\r\n"
            ).encode()
        )
        try:
            while True:
                await asyncio.sleep(self.delay_s)
                await self.thawed.wait()
                if fault is not None and len(ids) - given >= fault.after:
                    return await self._strike(fault, writer)
                if gone.done():
                    self.aborted += 1
                    return None
                token = next_id(ids, body.get("seed"))
                event = self._event(ids, token, body["logprobs"])
                ids.append(token)
                self._hold(1)
                finish = None
                if token in body["stop_token_ids"] or token in self.own_stop_ids:
                    finish = "stop"
                elif len(ids) - given >= body["max_tokens"]:
                    finish = "length"
                event["choices"][0]["finish_reason"] = finish
                self._event_out(writer, event)
                try:
                    await writer.drain()
                except ConnectionError:  # closed since it was asked above
                    self.aborted += 1
                    return None
                if finish is not None:
                    break
            if self.usage_fault is not None:
                await asyncio.sleep(0.05)
                return await self._strike(self.usage_fault, writer)
            self._event_out(writer, {"choices": [], "usage": usage})
            _chunk_out(writer, b"data: [DONE]\n\n")
            writer.write(b"0\r\n\r\n")
            return None
        finally:
            self._cache.append(ids[:-1])
            self._hold(-len(ids))
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

    def _hold(self, tokens: int) -> None:
        self.in_flight += tokens
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def _event(self, ids: list[int], token: int, candidates: int) -> dict[str, Any]:
        best = {f"token_id:{token}": logprob(ids, token)}
        for other in range(candidates):
            best.setdefault(f"token_id:{other}", -float(other + 1))
        said = {
            "tokens": [f"token_id:{token}"],
            "token_logprobs": [logprob(ids, token)],
            "top_logprobs": [best],
        }
        return {"choices": [{"index": 0, "text": "x", "logprobs": said}]}

    def _event_out(self, writer: asyncio.StreamWriter, event: Any) -> None:
        _chunk_out(writer, f"data: {json.dumps(event)}\n\n".encode())

    async def _strike(self, fault: Fault, writer: asyncio.StreamWriter) -> None:
        match fault.kind:
            case "cut":
                writer.transport.abort()
            case "half":
                _chunk_out(writer, b'data: {"choices": [{"ind')
                await writer.drain()
                writer.transport.abort()
            case "end":
                writer.write(b"0\r\n\r\n")
            case "done":
                _chunk_out(writer, b"data: [DONE]\n\n")
                writer.write(b"0\r\n\r\n")
            case "garbage":
                _chunk_out(writer, b"data: {nonsense}\n\n")
            case "strange":
                self._event_out(writer, {"choices": [{"text": 3}]})
            case "error":
                self._event_out(writer, {"error": {"message": "engine trouble", "code": 500}})
            case "refusal":
                self._event_out(writer, {"error": {"message": "bad prompt", "code": 400}})
            case "abort":
                said = {"tokens": [], "token_logprobs": [], "top_logprobs": []}
                choice = {"logprobs": said, "finish_reason": "abort"}
                self._event_out(writer, {"choices": [choice]})
            case "pieces":
                usage = {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}
                data = json.dumps({"choices": [], "usage": usage})
                for piece in (f"data: {data[:9]}", data[9:], "\n\ndata: [DONE]\n\n"):
                    _chunk_out(writer, piece.encode())
                    await asyncio.sleep(0.02)
                writer.write(b"0\r\n\r\n")
            case "hang":
                await asyncio.Event().wait()
            case "freeze":
                self.thawed.clear()
                await self.thawed.wait()
            case "crash" | "dead":
                if fault.kind == "dead":
                    self.faults.appendleft(fault)
                else:
                    assert self._server is not None
                    self._server.close()
                    self._server = None
                writer.transport.abort()
            case _:
                raise AssertionError(fault.kind)


def _chunk_out(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


class InThread:
    """A server in a thread of its own, for tests that block; it can be closed and opened again."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self._loop: asyncio.AbstractEventLoop | None = None
        self.open()

    @property
    def url(self) -> str:
        return self.server.url

    def open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._run(self.server.start())

    def close(self) -> None:
        if self._loop is None:
            return
        self._run(self.server.crash())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    def _run(self, what: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(what, self._loop).result()
