"""Which server a request goes to, and what happens when one is lost.

A trajectory stays with the server that holds its prefix, until it is released or the server is lost;
a new one goes to the server with the fewest requests. Each server has at most one recovery at a time, and
requests that wait for a server get the first one that is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from solver.engines.vllm.admission import Admission
from solver.engines.vllm.client import Client
from solver.engines.vllm.hosts import Host, ServerLost
from solver.engines.vllm.waiting import Waiter
from solver.errors import EngineError, SolverError

MOST_SILENCES = 3  # in a row, though each probe is answered: a server that admits nothing is lost
_PAUSE_S = 0.2  # between two attempts to connect to a restarted server


class Closing(EngineError):
    """The engine is being closed."""


@dataclass(eq=False, slots=True)
class Server:
    """The state of one host. `generation` counts its restarts; `requests` are those it serves now."""

    host: Host
    client: Client
    admission: Admission
    generation: int = 0
    is_up: bool = True
    given_up: str | None = None
    active_at: float = 0.0  # loop seconds of its last answer, token or answer to a probe
    silences: int = 0  # since its last answer or token: progress is judged by these, not by probes
    requests: set[Waiter] = field(default_factory=set)
    probe_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    recovery: asyncio.Task[None] | None = None

    def record_activity(self) -> None:
        """It has just sent something that only a running engine sends."""
        self.active_at = asyncio.get_running_loop().time()
        self.silences = 0
        self.host.reset_failures()


async def connect(host: Host) -> tuple[Client, int | None]:
    """A client for the model that the host serves, and the capacity of its KV cache in tokens, if known.

    Raises `EngineError`.
    """
    client = Client(host.url)
    try:
        name = (await client.model_info()).name
        return Client(host.url, name), await client.capacity_tokens()
    finally:
        await client.aclose()


class Fleet:
    """All servers of an engine. `on_incident` gets one sentence for every loss and every recovery."""

    def __init__(
        self, servers: Sequence[Server], probe_s: float, on_incident: Callable[[str], None]
    ) -> None:
        self.servers = list(servers)
        self.losses = 0
        self.is_closing = False
        self._probe_s, self._on_incident = probe_s, on_incident
        self._placed: dict[str, Server] = {}
        self._changed = asyncio.Event()

    @property
    def preemptions(self) -> int:
        """How often a request was preempted because a KV cache was full."""
        return sum(server.admission.preemptions for server in self.servers)

    async def find(self, trajectory_id: str | None, request: Waiter) -> Server:
        """A server that is up, waited for if there is none; `request` is added to its requests.

        Raises `EngineError` when every server is given up.
        """
        while (server := self._choose(trajectory_id)) is None:
            if all(server.given_up is not None for server in self.servers):
                raise EngineError("; ".join(str(server.given_up) for server in self.servers))
            await self._changed.wait()
        if trajectory_id is not None:
            self._placed[trajectory_id] = server
        server.requests.add(request)
        return server

    def _choose(self, trajectory_id: str | None) -> Server | None:
        own = self._placed.get(trajectory_id) if trajectory_id is not None else None
        if own is not None and own.is_up:
            return own
        placed = list(self._placed.values())
        return min(
            (server for server in self.servers if server.is_up),
            key=lambda server: (len(server.requests), placed.count(server)),
            default=None,
        )

    def refuse_if_closing(self) -> None:
        """Raises `Closing` once the engine is being closed."""
        if self.is_closing:
            raise Closing("the engine is closing")

    def release(self, trajectory_id: str) -> None:
        """Forget where a trajectory was."""
        self._placed.pop(trajectory_id, None)

    async def check(
        self, server: Server, generation: int, since: float, reason: str, *, silent: bool = False
    ) -> bool:
        """Whether the server that was `silent` since `since` (loop seconds), or failed, still works.

        It is lost if it was not active since then and does not answer a probe, or was silent
        `MOST_SILENCES` times in a row: then the waits of all its requests are cancelled, and its recovery
        is started.
        """
        async with server.probe_lock:  # one probe for all requests that fail at the same time
            if server.generation != generation or not server.is_up:
                return False
            if server.active_at > since:
                return True
            answers = await server.client.answers(self._probe_s)
            if server.active_at > since:  # something came meanwhile
                return True
            if answers:
                server.active_at = asyncio.get_running_loop().time()
                server.silences += silent
                if server.silences < MOST_SILENCES:
                    return True
                reason = (
                    f"it answers probes, and no request: silent {server.silences} times in a row"
                )
            self._mark_lost(server, reason)
            return False

    def _mark_lost(self, server: Server, reason: str) -> None:
        server.is_up = False
        self.losses += 1
        number = len(server.requests)
        who = "1 request goes on" if number == 1 else f"{number} requests go on"
        where = "elsewhere" if any(s.is_up for s in self.servers) else "when it is back"
        self._on_incident(f"server {server.host.url} was lost ({reason}); {who} {where}")
        for request in list(server.requests):
            request.cancel_wait()
        server.recovery = asyncio.create_task(self._recover(server), name="recovery")

    async def _recover(self, server: Server) -> None:
        started = asyncio.get_running_loop().time()
        try:
            await server.client.aclose()
            await self._reconnect(server)
            took = asyncio.get_running_loop().time() - started
            self._on_incident(f"server {server.host.url} is back after {took:.0f} s")
        except Exception as error:  # any failure gives the server up: no request may wait for ever
            named = str(error) if isinstance(error, SolverError) else repr(error)
            server.given_up = f"server {server.host.url} is given up: {named}"
            self._on_incident(server.given_up)
        finally:
            self._changed.set()
            self._changed = asyncio.Event()

    async def _reconnect(self, server: Server) -> None:
        while not server.is_up:
            await server.host.recover()
            try:
                async with asyncio.timeout(self._probe_s):
                    server.client, capacity = await connect(server.host)
            except (ServerLost, TimeoutError):  # the host limits how often it recovers
                await asyncio.sleep(_PAUSE_S)
                continue
            server.admission.capacity = capacity
            server.generation += 1
            server.silences = 0
            server.is_up = True

    async def aclose(self) -> None:
        """End recoveries, connections and hosts; the first failure is raised after all have ended."""
        recoveries = [server.recovery for server in self.servers if server.recovery is not None]
        for recovery in recoveries:
            recovery.cancel()
        await asyncio.gather(*recoveries, return_exceptions=True)
        closings = [server.client.aclose() for server in self.servers]
        closings += [server.host.aclose() for server in self.servers]
        for result in await asyncio.gather(*closings, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
