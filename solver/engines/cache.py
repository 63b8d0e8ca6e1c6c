"""Which rows are in the cache, and how much of it they may take.

Rows that run live in the arena, the decoding ones first (slots 0..n-1), so joining and leaving move
one row. A row that pauses leaves the arena as a compact copy of exactly its tokens, and comes back
the same way. The bound therefore holds for memory, not just for counts: the cells of the arena plus
the tokens of all pauses stay within it. Beyond it go, for a moment, a row that moves between the
two, and one layer when the arena changes size. The arena is as long as its longest row; within the
bound it may be up to twice as long and have twice the slots, as it grows by doubling.

A request is admitted when every running row could grow to its full reservation; the oldest pauses
are dropped to make room for it, unless somebody wants to be asked before (`Core.asks`). Nothing that
runs is ever preempted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from solver.engines.arena import BLOCK, Arena, CacheShape, in_blocks
from solver.engines.requests import Request, Want

# a shared prefix that someone else is just encoding is worth waiting for from this length on
_WORTH_WAITING = 8


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common prefix of two lists."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


@dataclass(eq=False, slots=True)
class Pause:
    """The cache of a row that does not run: ids and their `[layers, 2, kv_heads, length, dim]`."""

    ids: list[int]
    saved: Tensor


@dataclass(frozen=True, slots=True)
class Match:
    """The longest prefix of a request that is cached somewhere, and who will soon have more."""

    source: Pause | Request | None = None
    length: int = 0
    leader: Request | None = None
    shared: int = 0


class Cache:
    """Rows, pauses and the bound. `live[i]` is the row in slot i; the first `num_decoding` decode."""

    def __init__(self, shape: CacheShape, max_tokens: int) -> None:
        self.arena = Arena(shape)
        self.max_tokens = max_tokens
        self.live: list[Request] = []
        self.num_decoding = 0
        self.pauses: dict[str, Pause] = {}  # oldest first
        self.paused_tokens = 0
        self.evicted_pauses = 0
        self.re_encoded = 0
        self._lost: dict[str, list[int]] = {}  # ids whose cache was dropped against our will

    def match(self, request: Request) -> Match:
        """Where the longest cached prefix of a request lies; its last id is never part of it."""
        most = len(request.ids) - 1
        if request.want is Want.LOGPROBS:  # every position must be seen, so nothing is skipped
            return Match()
        own = self.pauses.get(request.trajectory_id)
        best = Match(own, min(common_prefix(request.ids, own.ids), most)) if own else Match()
        if own and best.length == min(len(own.ids), most):
            return best
        leader, shared = None, 0
        for row in self.live:
            common = min(common_prefix(request.ids, row.ids), most)
            if min(common, row.length) > best.length:
                best = Match(row, min(common, row.length))
            if common > max(row.length, shared):
                leader, shared = row, common
        for pause in self.pauses.values():
            if best.length == most:
                break
            common = min(common_prefix(request.ids, pause.ids), most)
            if common > best.length:
                best = Match(pause, common)
        if shared >= best.length + _WORTH_WAITING:
            return Match(best.source, best.length, leader, shared)
        return best

    def fits(self, request: Request) -> bool:
        """Whether the running rows and this one could all grow to the longest reservation.

        Pauses may have to go for it; for a scratch row only if it cannot wait for a running one.
        """
        spared = self.paused_tokens if self.live and request.want is not Want.TOKENS else 0
        return self._cells_with(request) + spared <= self.max_tokens

    def crowded(self, request: Request) -> bool:
        """Whether a pause would have to go for it, now or for a scratch row behind the longest one."""
        own = self.pauses.get(request.trajectory_id)
        others = [len(pause.ids) for pause in self.pauses.values() if pause is not own]
        if not others:
            return False
        scratch = in_blocks(max(others) + BLOCK)
        return sum(others) + self._cells_with(request) + scratch > self.max_tokens

    def _cells_with(self, request: Request) -> int:
        longest = max([request.reserve, *(row.reserve for row in self.live)])
        return (len(self.live) + 1) * in_blocks(longest)

    def admit(self, request: Request, match: Match) -> None:
        """Give a request that `fits` a row, filled with the prefix that `match` found."""
        cells = self._cells_with(request)
        if request.want is Want.TOKENS:
            self._forget_pause(request.trajectory_id)
            lost = self._lost.pop(request.trajectory_id, [])
            again = min(common_prefix(lost, request.ids), request.given)
            self.re_encoded += max(0, again - match.length)
        while self.paused_tokens > self.max_tokens - cells:
            self._evict(next(iter(self.pauses)))
        request.slot = len(self.live)
        self.live.append(request)
        self.make_room(match.length + 1)
        if isinstance(match.source, Pause):
            self.arena.restore(match.source.saved, request.slot, match.length)
        elif match.source is not None:
            self.arena.copy(match.source.slot, request.slot, match.length)
        request.length = request.reused = match.length
        self.promote(request)

    def _evict(self, trajectory_id: str) -> None:
        self._lost[trajectory_id] = self.pauses[trajectory_id].ids
        self._forget_pause(trajectory_id)
        self.evicted_pauses += 1

    def _forget_pause(self, trajectory_id: str) -> None:
        pause = self.pauses.pop(trajectory_id, None)
        if pause is not None:
            self.paused_tokens -= len(pause.ids)

    def make_room(self, capacity: int = 0) -> None:
        """Let every running row hold `capacity` tokens, and give back what the bound does not allow."""
        lengths = [row.length for row in self.live]
        limit = max((row.reserve for row in self.live), default=0)
        room = self.max_tokens - self.paused_tokens
        self.arena.fit(lengths, max([capacity, *lengths]), limit, room)

    def promote(self, request: Request) -> None:
        """Move a row that has just one id to feed to the end of the decoding rows."""
        if (
            request.want is Want.TOKENS
            and request.pending == 1
            and request.slot >= self.num_decoding
        ):
            self._swap(request.slot, self.num_decoding)
            self.num_decoding += 1

    def retire(self, request: Request) -> None:
        """Take a row out of the arena; a `TOKENS` row is kept as a pause unless it was released."""
        if request.want is Want.TOKENS and request.keep and request.length:
            saved = self.arena.save(request.slot, request.length)
            self.pauses[request.trajectory_id] = Pause(request.ids[: request.length], saved)
            self.paused_tokens += request.length
        if request.slot < self.num_decoding:
            self.num_decoding -= 1
            self._swap(request.slot, self.num_decoding)
        self._swap(request.slot, len(self.live) - 1)
        self.live.pop().slot = -1
        if self.live:
            self.make_room()
        else:
            self.arena.clear()

    def discard(self, request: Request) -> None:
        """Take a row whose numbers are broken out of the arena and leave no trace of them."""
        request.keep = False
        self.arena.scrub(request.slot)
        self.retire(request)

    def _swap(self, one: int, other: int) -> None:
        if one != other:
            first, second = self.live[one], self.live[other]
            self.arena.swap(one, other, max(first.length, second.length))
            self.live[one], self.live[other] = second, first
            first.slot, second.slot = other, one

    def release(self, trajectory_id: str) -> None:
        """Forget a trajectory; if it runs, its row is not kept when it ends."""
        self._forget_pause(trajectory_id)
        self._lost.pop(trajectory_id, None)
        for row in self.live:
            if row.trajectory_id == trajectory_id:
                row.keep = False

    def clear(self) -> None:
        """Forget everything."""
        self.drop_live()
        self.pauses.clear()
        self.paused_tokens = 0
        self._lost.clear()

    def drop_live(self) -> list[Request]:
        """Forget everything that runs, after a failure; pauses stay. Returns the requests."""
        rows, self.live, self.num_decoding = self.live, [], 0
        for row in rows:
            row.slot = -1
            if row.want is Want.TOKENS:
                self._lost[row.trajectory_id] = row.ids[: row.length]
        self.arena.clear()
        return rows
