"""Which server a request goes to, and what happens when one is lost.

A trajectory stays with the server that holds its prefix, until it is released or the server is lost;
a new one goes where the fewest requests are. Each server has at most one recovery going on, and whoever
waits for a server gets the first that is there.
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

_PAUSE_S = 0.2  # between two tries of what should have worked


class Closing(EngineError):
    """The engine is being closed while somebody waits for it."""


@dataclass(eq=False, slots=True)
class Server:
    """One host as it is now. `generation` counts how often it came back; `visits` who is there."""

    host: Host
    client: Client
    admission: Admission
    generation: int = 0
    is_up: bool = True
    given_up: str | None = None
    heard_at: float = 0.0  # loop seconds of its last sign of life
    visits: set[Waiter] = field(default_factory=set)
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)
    recovery: asyncio.Task[None] | None = None

    def heard(self) -> None:
        """It has just said something that only a running engine says."""
        self.heard_at = asyncio.get_running_loop().time()
        self.host.alive()


async def connect(host: Host) -> tuple[Client, int | None]:
    """A client that asks for what the host serves, and the tokens its KV cache holds, if known.

    Raises `EngineError`.
    """
    looking = Client(host.url)
    try:
        name = (await looking.model_info()).name
        return Client(host.url, name), await looking.capacity_tokens()
    finally:
        await looking.aclose()


class Fleet:
    """All servers of an engine. `on_incident` gets one sentence for every loss and return."""

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
    def gave_way(self) -> int:
        """How often a request stood up because a cache was full."""
        return sum(server.admission.gave_way for server in self.servers)

    async def find(self, trajectory_id: str | None, visit: Waiter) -> Server:
        """A server that is up, with `visit` written down there, waiting for one if need be.

        Raises `EngineError` when every server is given up.
        """
        while (server := self._choose(trajectory_id)) is None:
            if all(server.given_up is not None for server in self.servers):
                raise EngineError("; ".join(str(server.given_up) for server in self.servers))
            await self._changed.wait()
        if trajectory_id is not None:
            self._placed[trajectory_id] = server
        server.visits.add(visit)
        return server

    def _choose(self, trajectory_id: str | None) -> Server | None:
        own = self._placed.get(trajectory_id) if trajectory_id is not None else None
        if own is not None and own.is_up:
            return own
        placed = list(self._placed.values())
        return min(
            (server for server in self.servers if server.is_up),
            key=lambda server: (len(server.visits), placed.count(server)),
            default=None,
        )

    def refuse_if_closing(self) -> None:
        """Raises `Closing` once the engine is being closed."""
        if self.is_closing:
            raise Closing("the engine is closing")

    def release(self, trajectory_id: str) -> None:
        """Forget where a trajectory was."""
        self._placed.pop(trajectory_id, None)

    async def check(self, server: Server, generation: int, since: float, reason: str) -> bool:
        """Whether the server that fell silent at `since` (loop seconds), or failed, still works.

        If it has not been heard since and does not answer a probe either, it is lost: then everybody
        there is called off, and it is brought back.
        """
        async with server.probing:  # one probe for all who ask at the same time
            if server.generation != generation or not server.is_up:
                return False
            if server.heard_at > since:
                return True
            if await server.client.answers(self._probe_s) or server.heard_at > since:
                server.heard_at = asyncio.get_running_loop().time()
                return True
            self._lose(server, reason)
            return False

    def _lose(self, server: Server, reason: str) -> None:
        server.is_up = False
        self.losses += 1
        number = len(server.visits)
        who = "1 request goes on" if number == 1 else f"{number} requests go on"
        where = "elsewhere" if any(s.is_up for s in self.servers) else "when it is back"
        self._on_incident(f"server {server.host.url} was lost ({reason}); {who} {where}")
        for visit in list(server.visits):
            visit.call_off()
        server.recovery = asyncio.create_task(self._recover(server), name="recovery")

    async def _recover(self, server: Server) -> None:
        started = asyncio.get_running_loop().time()
        try:
            await server.client.aclose()
            await self._bring_back(server)
            took = asyncio.get_running_loop().time() - started
            self._on_incident(f"server {server.host.url} is back after {took:.0f} s")
        except Exception as error:  # whatever it is, nobody may wait for this server for ever
            named = str(error) if isinstance(error, SolverError) else repr(error)
            server.given_up = f"server {server.host.url} is given up: {named}"
            self._on_incident(server.given_up)
        finally:
            self._changed.set()
            self._changed = asyncio.Event()

    async def _bring_back(self, server: Server) -> None:
        while not server.is_up:
            await server.host.recover()
            try:
                async with asyncio.timeout(self._probe_s):
                    server.client, capacity = await connect(server.host)
            except (ServerLost, TimeoutError):  # lost again; how often is the host's to say
                await asyncio.sleep(_PAUSE_S)
                continue
            server.admission.capacity = capacity
            server.generation += 1
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
