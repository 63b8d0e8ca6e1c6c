"""A host whose server is checked at its start and after each restart."""

from __future__ import annotations

from dataclasses import replace

from solver.engines.vllm.client import Client
from solver.engines.vllm.handshake import Expected, Facts, verify_server
from solver.engines.vllm.hosts import Host, Say, ServerLost
from solver.errors import EngineError, ModelError


class VerifiedHost:
    """A `Host` that is up only after `verify_server` passed, at the start and after each restart."""

    def __init__(self, host: Host, expected: Expected, say: Say) -> None:
        self._host, self._expected, self._say = host, expected, say
        self._facts: Facts | None = None

    @property
    def url(self) -> str:
        """The server's base address."""
        return self._host.url

    @property
    def facts(self) -> Facts:
        """What the check found at the start."""
        assert self._facts is not None, "not started"
        return self._facts

    async def start(self) -> None:
        """Start the server and check it. Raises `ModelError` or `EngineError`."""
        await self._host.start()
        while self._facts is None:
            try:
                self._facts = await self._verify()
            except ServerLost:  # the host limits how often it recovers
                await self._host.recover()
        # The run relies on this context length: a restarted server must have at least that.
        self._expected = replace(self._expected, context_length=self._facts.context_length)

    async def recover(self) -> None:
        """Restart the server and check it; `EngineError` when it is given up or no longer fits."""
        while True:
            await self._host.recover()
            try:
                await self._verify()
                return
            except ServerLost:
                continue
            except ModelError as error:
                raise EngineError(f"it is different after its restart: {error}") from None

    def reset_failures(self) -> None:
        """A token came: failures in a row are counted from 0 again."""
        self._host.reset_failures()

    async def aclose(self) -> None:
        """End the server if it is ours."""
        await self._host.aclose()

    async def _verify(self) -> Facts:
        client = Client(self._host.url)
        try:
            return await verify_server(client, self._expected, self._say)
        finally:
            await client.aclose()
