"""What the notebook and its worker say to each other: one JSON object a line, over the worker's pipes.

Times are absolute seconds on the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from solver.journal.events import Solved

MAX_LINE = 16_000_000  # bytes; a longer line is nobody's message


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)

    def line(self) -> bytes:
        """The message as it is sent; half characters (lone surrogates) become "?"."""
        return json.dumps(self.model_dump(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


class Task(_Message):
    """To the worker: solve this until `deadline`. `number` counts the rows, from 1."""

    problem_id: str
    statement: str
    number: int
    allotted_s: float
    reserve_s: float
    deadline: float


class Beat(_Message):
    """The worker's event loop turns."""

    type: Literal["beat"] = "beat"


class Ready(_Message):
    """The model is loaded."""

    type: Literal["ready"] = "ready"


class VoteSoFar(_Message):
    """What the trajectories that have ended would answer."""

    type: Literal["vote"] = "vote"
    problem_id: str
    answer: int


class Done(_Message):
    """The problem's answer, recorded in the journal."""

    type: Literal["done"] = "done"
    solved: Solved


class Refused(_Message):
    """The worker cannot start, and would not the next time: a mistake of the user's."""

    type: Literal["refused"] = "refused"
    message: str


Message = Annotated[Beat | Ready | VoteSoFar | Done | Refused, Field(discriminator="type")]
MESSAGES: TypeAdapter[Message] = TypeAdapter(Message)
