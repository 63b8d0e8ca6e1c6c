"""The port to one vLLM server: its address, its start, and its recovery when it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from solver.errors import EngineError

Say = Callable[[str], None]


class ServerLost(EngineError):
    """The server failed (crash, hang, 503, a stream cut short): the request may be repeated."""


class Host(Protocol):
    """One server, supervised or attached. One task at a time calls `start` or `recover`."""

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

    def reset_failures(self) -> None:
        """A token came: failures in a row are counted from 0 again."""
        ...

    async def aclose(self) -> None:
        """End the server that was started; an attached server goes on running."""
        ...
