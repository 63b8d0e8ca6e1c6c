"""Waits that another task can cancel: for a server, for space in its KV cache, for its next token."""

from __future__ import annotations

import asyncio
from types import TracebackType


class WaitCancelled(Exception):
    """The wait was cancelled: the engine closes, the server is lost, or the request is preempted."""


class Waiter:
    """One wait at a time, written `async with waiter.within(seconds)`, that another task can cancel.

    `cancel_wait` ends the current wait, or the next one if there is none, with `WaitCancelled`. That is
    raised in the waiting task and only inside `within`, never while the task handles a chunk.
    """

    def __init__(self) -> None:
        self._is_cancelled = False
        self._timeout: asyncio.Timeout | None = None
        self._limit_s: float | None = None

    def cancel_wait(self) -> None:
        """End the current wait, or the next one if there is none."""
        self._is_cancelled = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def reset(self) -> None:
        """Clear a cancellation that is still pending."""
        self._is_cancelled = False

    def within(self, seconds: float | None) -> Waiter:
        """The context to wait in; it raises `TimeoutError` after `seconds` (None: no limit)."""
        self._limit_s = seconds
        return self

    async def __aenter__(self) -> None:
        if self._is_cancelled:
            raise WaitCancelled
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
            if self._is_cancelled:
                raise WaitCancelled from None
            raise
        # A failure after a cancellation is a consequence of it, such as a stream that was closed.
        if self._is_cancelled and isinstance(error, Exception):
            raise WaitCancelled from None
