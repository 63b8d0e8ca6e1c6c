"""How many tokens may be in flight on one server: no more than its KV cache holds.

A request takes a seat of its current length, which grows with it. Who comes first sits first. When
the cache is full, the youngest gives way: it stands up, and waits for room again with the ids it has.
So the oldest always goes on, and the server never has to throw out what it is working on.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

HEADROOM = 64  # tokens a seat holds beyond its ids: unfilled blocks, and tokens that are underway
MARGIN = (
    256  # tokens that must stay free when another one sits down, so that it does not stand up again
)

_serial = count()


@dataclass(eq=False, slots=True)
class Seat:
    """A request's place: its tokens, and what to call when it has to give way (None: never)."""

    tokens: int
    give_way: Callable[[], None] | None = None
    serial: int = field(default_factory=lambda: next(_serial))
    taken: asyncio.Future[None] | None = None


class Admission:
    """The seats of one server; `capacity` in tokens, None if it is unknown and so unlimited."""

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.in_flight = 0  # tokens of those who sit, headroom included
        self.gave_way = 0
        self._sitting: set[Seat] = set()
        self._queue: list[Seat] = []  # oldest first

    async def enter(self, seat: Seat) -> None:
        """Return when there is room for `seat` and nobody older waits."""
        seat.taken = asyncio.get_running_loop().create_future()
        insort(self._queue, seat, key=lambda queued: queued.serial)
        self._fill()
        try:
            await seat.taken
        except BaseException:
            self.leave(seat)
            raise

    def leave(self, seat: Seat) -> None:
        """Give the seat back, or the place in the queue."""
        if seat in self._sitting:
            self._sitting.remove(seat)
            self.in_flight -= seat.tokens + HEADROOM
        elif seat in self._queue:
            self._queue.remove(seat)
        self._fill()

    def grow(self, seat: Seat, tokens: int) -> None:
        """`seat` has become longer; if that is too much, the youngest give way until it fits."""
        seat.tokens += tokens
        if seat not in self._sitting:  # it gave way just now
            return
        self.in_flight += tokens
        while self.capacity is not None and self.in_flight > self.capacity:
            movable = [sitting for sitting in self._sitting if sitting.give_way is not None]
            if len(self._sitting) == 1 or not movable:
                return
            youngest = max(movable, key=lambda sitting: sitting.serial)
            assert youngest.give_way is not None
            self.gave_way += 1
            self._sitting.remove(youngest)
            self.in_flight -= youngest.tokens + HEADROOM
            youngest.give_way()

    def _fill(self) -> None:
        """Let those sit down who fit, in the order of their age."""
        while self._queue and self._fits(self._queue[0]):
            seat = self._queue.pop(0)
            assert seat.taken is not None
            if seat.taken.done():  # called off, and about to leave
                continue
            self._sitting.add(seat)
            self.in_flight += seat.tokens + HEADROOM
            seat.taken.set_result(None)

    def _fits(self, seat: Seat) -> bool:
        if self.capacity is None or not self._sitting:
            return True
        return self.in_flight + seat.tokens + HEADROOM + MARGIN <= self.capacity
