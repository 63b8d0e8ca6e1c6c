"""Waiting that others can end: for a server, for room in its cache, for its next token."""

from __future__ import annotations

import asyncio
from types import TracebackType


class CalledOff(Exception):
    """Whoever waits should look again: the engine closes, the server is lost, or room was taken."""


class Waiter:
    """Something that waits at one place at a time, as `async with waiter.within(seconds)`.

    `call_off` ends that wait, or the next one if there is none now, with `CalledOff`. It is raised by
    the waiter's own task and never while its owner does something else, such as consuming a chunk.
    """

    def __init__(self) -> None:
        self._called_off = False
        self._timeout: asyncio.Timeout | None = None
        self._limit_s: float | None = None

    def call_off(self) -> None:
        """End the wait that is on, or the next one."""
        self._called_off = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def call_on(self) -> None:
        """Forget that the wait was called off."""
        self._called_off = False

    def within(self, seconds: float | None) -> Waiter:
        """What to wait in, for at most `seconds`; then it raises `TimeoutError`."""
        self._limit_s = seconds
        return self

    async def __aenter__(self) -> None:
        if self._called_off:
            raise CalledOff
        timeout = asyncio.timeout(self._limit_s)
        await timeout.__aenter__()
        self._timeout = timeout

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        timeout, self._timeout = self._timeout, None
        assert timeout is not None
        try:
            await timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if self._called_off:
                raise CalledOff from None
            raise
        if self._called_off and isinstance(error, Exception):  # what fails now fails because of it
            raise CalledOff from None
