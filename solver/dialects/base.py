"""The dialect port: how a model is asked, calls tools, is answered, and is made to conclude.

A dialect never rewrites what was sampled: it only says which ids to append.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sandbox.result import ExecutionResult
from solver.config import AnswerConfig
from solver.types import Trajectory


class TurnReader(Protocol):
    """Reads one turn token by token, and knows when a tool call in it is complete."""

    @property
    def call(self) -> str | None:
        """The code of the first complete tool call of the turn, if there is one."""
        ...

    @property
    def refusal(self) -> str | None:
        """Why the complete call is answered without running anything; None: it is run."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the model has ended its turn: nothing more is sampled in it."""
        ...

    def feed(self, token_id: int) -> None:
        """Read the next sampled id."""
        ...


class Dialect(Protocol):
    """One conversation format, bound to a tokenizer."""

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Ids that end the model's turn."""
        ...

    @property
    def banned_token_ids(self) -> frozenset[int]:
        """Ids that must never be sampled (padding, reserved ids)."""
        ...

    def reserve(self, token_ids: Sequence[int]) -> None:
        """Ban these ids too: an adapter uses them as [STOP]."""
        ...

    def prompt(self, statement: str) -> list[int]:
        """Ids of the conversation up to where the model begins to write."""
        ...

    def reader(self, token_ids: Sequence[int] = ()) -> TurnReader:
        """A reader of one turn that has read `token_ids` already."""
        ...

    def tool_message(self, trajectory: Trajectory, result: ExecutionResult) -> list[int]:
        """Ids to append after the call that `trajectory` ends with."""
        ...

    def final_opening(self, trajectory: Trajectory) -> list[int]:
        """Ids that close whatever is open and begin the final answer."""
        ...

    def boxes(self, trajectory: Trajectory) -> list[str]:
        """Contents of the boxes in the model's own text, the one that decides last."""
        ...

    def answer(self, trajectory: Trajectory, rule: AnswerConfig) -> int | None:
        """The answer in the model's own text: never the prompt's, a quoted one or a tool's."""
        ...

    def text(self, token_ids: Sequence[int]) -> str:
        """Ids as text, special tokens shown."""
        ...
