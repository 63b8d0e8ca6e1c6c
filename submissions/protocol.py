"""The messages between the notebook and its worker: one JSON object a line, over the worker's pipes.

Times are absolute seconds on the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from solver.journal.events import Solved
from solver.types import Check, ProblemBudget

MAX_LINE = 16_000_000  # bytes; a longer line is no message


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)

    def line(self) -> bytes:
        """The message as a line of JSON; lone surrogates become "?"."""
        return json.dumps(self.model_dump(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


class Task(_Message):
    """To the worker: solve this until `deadline`. `number` counts the rows, from 1.

    The rest is as in `solver.types.ProblemBudget`.
    """

    problem_id: str
    statement: str
    number: int
    allotted_s: float
    reserve_s: float
    deadline: float
    launch: int | None = None
    checks: tuple[Check, ...] | None = None
    why: str = ""

    @property
    def budget(self) -> ProblemBudget:
        """What the problem may take."""
        return ProblemBudget(
            self.allotted_s, self.reserve_s, self.deadline, self.launch, self.checks, self.why
        )


class Heartbeat(_Message):
    """The worker's event loop is running."""

    type: Literal["beat"] = "beat"


class Ready(_Message):
    """The model is loaded."""

    type: Literal["ready"] = "ready"


class VoteSoFar(_Message):
    """The vote of the trajectories that have ended so far."""

    type: Literal["vote"] = "vote"
    problem_id: str
    answer: int


class Done(_Message):
    """The problem's answer, recorded in the journal."""

    type: Literal["done"] = "done"
    solved: Solved


class Refused(_Message):
    """The worker cannot start because of a mistake of the user, so a restart would not help."""

    type: Literal["refused"] = "refused"
    message: str


Message = Annotated[Heartbeat | Ready | VoteSoFar | Done | Refused, Field(discriminator="type")]
MESSAGES: TypeAdapter[Message] = TypeAdapter(Message)
