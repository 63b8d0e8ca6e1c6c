"""One of n equal parts of a list, for machines that share nothing but the list: `--shard 2/4`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from solver.errors import ConfigError, InputError

T = TypeVar("T")

_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `place` (from 1) of `of` parts: every `of`-th item, so that all parts are alike."""

    place: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard in `2/4`. Raises `ConfigError`."""
        match = _SHARD.fullmatch(text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--shard {text!r}: write i/n with i from 1 to n, such as 1/4")
        return cls(int(match[1]), int(match[2]))

    @property
    def label(self) -> str:
        """`2-of-4`, for names of files."""
        return f"{self.place}-of-{self.of}"

    def part(self, items: Sequence[T]) -> list[T]:
        """Its items, in their order. Raises `InputError` if there are none."""
        chosen = list(items[self.place - 1 :: self.of])
        if not chosen:
            raise InputError(f"--shard {self}: {len(items)} problems make no {self.of} shards")
        return chosen

    def __str__(self) -> str:
        return f"{self.place}/{self.of}"
