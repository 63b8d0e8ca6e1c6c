"""A host is one vLLM server: where it is, and how to get it back when it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from solver.errors import EngineError

Say = Callable[[str], None]


class ServerLost(EngineError):
    """The server did not do its part (crash, hang, 503, a stream cut short): the request may be repeated."""


class Host(Protocol):
    """One server, ours or somebody else's. One task at a time calls `start` or `recover`."""

    @property
    def url(self) -> str:
        """Its base address, such as http://127.0.0.1:8011; may change with every start."""
        ...

    async def start(self) -> None:
        """Return when the server answers. Raises `ModelError` or `EngineError` with what to do."""
        ...

    async def recover(self) -> None:
        """Return when the lost server answers again; `EngineError` when it is given up for good."""
        ...

    def alive(self) -> None:
        """A token came: what follows is a new failure, not the same one again."""
        ...

    async def aclose(self) -> None:
        """End what was started; a server that was only attached to is left alone."""
        ...
