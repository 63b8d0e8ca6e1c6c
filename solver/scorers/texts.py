"""What a judge of texts reads: the problem's statement and what was written so far, apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from solver.dialects.base import Dialect

_SENTINEL = "STATEMENTSTANDSHERE"


@dataclass(frozen=True, slots=True)
class PromptShape:
    """The text that a dialect's prompt puts before and after the statement."""

    before: str
    after: str

    @classmethod
    def of(cls, dialect: Dialect) -> Self:
        """The shape of this dialect's prompts, found by asking for one."""
        before, _, after = dialect.text(dialect.prompt(_SENTINEL)).partition(_SENTINEL)
        return cls(before, after)

    def split(self, text: str) -> tuple[str, str]:
        """(statement, written) of a prompt and what follows it, as text with special tokens shown."""
        statement, _, written = text.removeprefix(self.before).partition(self.after)
        return statement, written


def texts_of(
    dialect: Dialect, shape: PromptShape, prefixes: Sequence[Sequence[int]]
) -> list[tuple[str, str]]:
    """(statement, written) of each prefix of token ids."""
    return [shape.split(dialect.text(ids)) for ids in prefixes]
