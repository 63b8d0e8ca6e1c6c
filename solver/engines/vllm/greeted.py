"""A host whose server is seen to fit before it serves, and again whenever it was lost."""

from __future__ import annotations

from dataclasses import replace

from solver.engines.vllm.client import Client
from solver.engines.vllm.handshake import Expected, Facts, shake_hands
from solver.engines.vllm.hosts import Host, Say, ServerLost
from solver.errors import EngineError, ModelError


class Greeted:
    """A host that is only there once its server was seen to fit, also after every restart."""

    def __init__(self, host: Host, expected: Expected, say: Say) -> None:
        self._host, self._expected, self._say = host, expected, say
        self._facts: Facts | None = None

    @property
    def url(self) -> str:
        """The server's base address."""
        return self._host.url

    @property
    def facts(self) -> Facts:
        """What the server is, once it was started."""
        assert self._facts is not None, "not started"
        return self._facts

    async def start(self) -> None:
        """Start it and shake hands. Raises `ModelError` or `EngineError`."""
        await self._host.start()
        while self._facts is None:
            try:
                self._facts = await self._greet()
            except ServerLost:  # lost at its very first requests; how often is the host's to say
                await self._host.recover()
        # what was found at first is what the run relies on from now on
        self._expected = replace(self._expected, context_length=self._facts.context_length)

    async def recover(self) -> None:
        """Get it back; `EngineError` when it is given up, or came back as another one."""
        while True:
            await self._host.recover()
            try:
                await self._greet()
                return
            except ServerLost:
                continue
            except ModelError as error:
                raise EngineError(f"it came back as another one: {error}") from None

    def alive(self) -> None:
        """A token came."""
        self._host.alive()

    async def aclose(self) -> None:
        """End what was started."""
        await self._host.aclose()

    async def _greet(self) -> Facts:
        client = Client(self._host.url)
        try:
            return await shake_hands(client, self._expected, self._say)
        finally:
            await client.aclose()
