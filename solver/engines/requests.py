"""One request inside the engine, and what it can be answered with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count

from torch import Tensor

from solver.errors import EngineError
from solver.types import Chunk, SamplingParams

_serial = count()


class Want(Enum):
    """What a request is after."""

    TOKENS = auto()  # sample ids; its row is kept as a pause when it ends
    LOGPROBS = auto()  # log-probabilities of its own ids; its row is scratch
    STATE = auto()  # the hidden state of its last id; its row is scratch


class Full(Enum):
    """There is no room for a request unless a pause is lost: may that be?"""

    FULL = auto()


FULL = Full.FULL
Answer = Chunk | list[float] | Tensor | EngineError | Full


@dataclass(eq=False, slots=True)
class Request:
    """Ids to be encoded and, for `TOKENS`, continued.

    `ids`, of which `given` came with the request, grows by what is sampled; `reserve` is the most
    that it may come to; `length` of them are in the cache; `slot` is the row's place in
    the arena, -1 while it waits and after it has ended. `leader` is a row that is encoding a prefix
    of `shared` ids which this request waits to copy. `may_evict`: pauses may be lost for it.
    """

    trajectory_id: str
    ids: list[int]
    want: Want
    params: SamplingParams | None = None
    outbox: asyncio.Queue[Answer] = field(default_factory=asyncio.Queue)
    serial: int = field(default_factory=lambda: next(_serial))
    given: int = 0
    reserve: int = 0
    length: int = 0
    slot: int = -1
    reused: int = 0
    keep: bool = True
    may_evict: bool = False
    leader: Request | None = None
    shared: int = 0
    logprobs: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.given = len(self.ids)

    @property
    def pending(self) -> int:
        """Ids that are not in the cache yet."""
        return len(self.ids) - self.length

    @property
    def follows(self) -> bool:
        """Whether the row it wants to copy from is still encoding what they share."""
        leader = self.leader
        return leader is not None and leader.slot >= 0 and leader.length < self.shared
