"""Admission control: no more tokens in flight on one server than its KV cache holds.

A request holds a slot of its current length, which grows with it. Slots are given in order of arrival.
When the cache is full, the newest request is preempted: it loses its slot and queues for another one
with the ids it has. So the oldest request always goes on, and the server never evicts running requests.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

HEADROOM = (
    64  # tokens a slot counts beyond its ids: unfilled blocks, and tokens still in the stream
)
MARGIN = 256  # tokens left free when a request is admitted, so that it is not preempted at once

_serial = count()


@dataclass(eq=False, slots=True)
class Slot:
    """A request's share of the cache in tokens; `preempt` is called when it loses it (None: never).

    `serial` is the order of arrival, `admitted` is done once the request has its slot.
    """

    tokens: int
    preempt: Callable[[], None] | None = None
    serial: int = field(default_factory=lambda: next(_serial))
    admitted: asyncio.Future[None] | None = None


class Admission:
    """The slots of one server; `capacity` in tokens, None if it is unknown and so unlimited."""

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.in_flight = 0  # tokens of the admitted slots, headroom included
        self.preemptions = 0
        self._admitted: set[Slot] = set()
        self._queue: list[Slot] = []  # oldest first

    async def acquire(self, slot: Slot) -> None:
        """Return when `slot` fits and no older one waits."""
        slot.admitted = asyncio.get_running_loop().create_future()
        insort(self._queue, slot, key=lambda queued: queued.serial)
        self._fill()
        try:
            await slot.admitted
        except BaseException:
            self.release(slot)
            raise

    def release(self, slot: Slot) -> None:
        """Free the slot, or remove it from the queue."""
        if slot in self._admitted:
            self._admitted.remove(slot)
            self.in_flight -= slot.tokens + HEADROOM
        elif slot in self._queue:
            self._queue.remove(slot)
        self._fill()

    def grow(self, slot: Slot, tokens: int) -> None:
        """`slot` is now longer by `tokens`; the newest slots are preempted until all fit."""
        slot.tokens += tokens
        if slot not in self._admitted:  # preempted just now
            return
        self.in_flight += tokens
        while self.capacity is not None and self.in_flight > self.capacity:
            preemptible = [held for held in self._admitted if held.preempt is not None]
            if len(self._admitted) == 1 or not preemptible:
                return
            newest = max(preemptible, key=lambda held: held.serial)
            assert newest.preempt is not None
            self.preemptions += 1
            self._admitted.remove(newest)
            self.in_flight -= newest.tokens + HEADROOM
            newest.preempt()

    def _fill(self) -> None:
        """Admit queued slots, oldest first, as long as they fit."""
        while self._queue and self._fits(self._queue[0]):
            slot = self._queue.pop(0)
            assert slot.admitted is not None
            if slot.admitted.done():  # cancelled; its task is about to release it
                continue
            self._admitted.add(slot)
            self.in_flight += slot.tokens + HEADROOM
            slot.admitted.set_result(None)

    def _fits(self, slot: Slot) -> bool:
        if self.capacity is None or not self._admitted:
            return True
        return self.in_flight + slot.tokens + HEADROOM + MARGIN <= self.capacity
