"""A vLLM server that already runs: waited for at the start and when it is lost, never ended by us."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from solver.config import VllmConfig
from solver.engines.vllm.client import Client
from solver.engines.vllm.hosts import Say
from solver.engines.vllm.supervised import back_off
from solver.errors import ConfigError, EngineError, ModelError

_POLL_S, _PROBE_S = 0.5, 5.0


def server_url(given: str) -> str:
    """The base address (scheme, host, port) of `given`. Raises `ConfigError` if it is no such address."""
    try:
        parts = urlsplit(given.strip())
        plain = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0  # reading it checks it
            and parts.path.rstrip("/") in ("", "/v1")
            and not (parts.query or parts.fragment or "@" in parts.netloc)
        )
    except ValueError:
        plain = False
    if not plain:
        raise ConfigError(f"{given!r} is no server: give http://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}"


class Attached:
    """A `Host` at a fixed address."""

    def __init__(
        self, url: str, config: VllmConfig, *, say: Say, on_incident: Say, progress_s: float = 10.0
    ) -> None:
        """`url` is the server's base address, as `server_url` gives it."""
        self._url, self._config = url, config
        self._say, self._on_incident, self._progress_s = say, on_incident, progress_s
        self._failures = 0

    @property
    def url(self) -> str:
        """Its base address."""
        return self._url

    async def start(self) -> None:
        """Return when it is healthy. Raises `ModelError` after the configured limit."""
        limit = self._config.start_limit_s
        try:
            async with asyncio.timeout(limit):
                await self._healthy()
        except TimeoutError:
            raise ModelError(
                f"no vLLM server answers at {self._url} (waited {limit:g} s): start it, see "
                "docs/vllm.md, or set vllm.start_limit_s higher"
            ) from None

    async def recover(self) -> None:
        """Return when it is healthy again. Raises `EngineError` when it is given up."""
        self._failures += 1
        if self._failures > self._config.max_restarts:
            raise EngineError(
                f"{self._url} was lost {self._failures} times in a row without a token: given up"
            )
        self._on_incident(f"{self._url} is lost; waiting until it is healthy again")
        await asyncio.sleep(back_off(self._failures))
        try:
            await self.start()
        except ModelError as error:
            raise EngineError(str(error)) from None

    def reset_failures(self) -> None:
        """A token came: failures in a row are counted from 0 again."""
        self._failures = 0

    async def aclose(self) -> None:
        """Do nothing: an attached server is not ended by us."""

    async def _healthy(self) -> None:
        loop = asyncio.get_running_loop()
        began = said = loop.time()
        client = Client(self._url)
        try:
            while not await client.healthy(_PROBE_S):
                if (now := loop.time()) - said >= self._progress_s:
                    said = now
                    self._say(f"waiting for a vLLM server at {self._url}, {now - began:.0f} s")
                await asyncio.sleep(_POLL_S)
        finally:
            await client.aclose()
