"""What the steps of the engine take, measured on the requests of a run."""

from __future__ import annotations

from collections.abc import Callable

from solver.policy.pace import Steps


class Meter:
    """Counts the tokens of all requests; the tokens that others sampled meanwhile tell how many ran."""

    def __init__(self) -> None:
        self.sampled = 0
        self._steps = Steps()

    def request(self, now: Callable[[], float]) -> Request:
        """A request that begins; `now` reads the clock, in seconds."""
        return Request(self, now)

    def add(self, steps: Steps) -> None:
        """Take in a request that has ended."""
        self._steps += steps

    def take(self) -> Steps:
        """What was measured since this was last asked."""
        steps, self._steps = self._steps, Steps()
        return steps


class Request:
    """One request, measured from its first chunk to its last: before it, ids are encoded."""

    def __init__(self, meter: Meter, now: Callable[[], float]) -> None:
        self._meter = meter
        self._now = now
        self._first: tuple[float, int] | None = (
            None  # when the first chunk was there, and all tokens then
        )
        self._last = 0.0
        self._tokens = self._together = 0  # since then: its own, and those of all

    def sampled(self, num_tokens: int) -> None:
        """A chunk of so many tokens came."""
        self._meter.sampled += num_tokens
        self._last = self._now()
        if self._first is None:
            self._first = self._last, self._meter.sampled
            return
        self._tokens += num_tokens
        self._together = self._meter.sampled - self._first[1]

    def end(self) -> None:
        """Have it counted."""
        if self._first is not None and self._tokens:
            streams = self._together / self._tokens
            self._meter.add(Steps.of(self._tokens, streams, self._last - self._first[0]))
