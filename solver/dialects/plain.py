"""Text that others wrote enters the context as text: a special token that it spells out is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


class PlainText:
    """Encodes with a Hugging Face tokenizer, of whose added tokens none is made from foreign text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = [str(token) for token in tokenizer.get_added_vocab()]
        # Runs of white space that some tokenizers add stand for themselves; one character cannot be cut.
        marks = sorted((t for t in added if not t.isspace() and len(t) > 1), key=len, reverse=True)
        self._mark = re.compile("|".join(map(re.escape, marks)) or r"(?!)")

    def encode(self, before: str, foreign: str, after: str) -> list[int]:
        """Ids of the three joined; what is special in `before` and `after` stays special.

        Without such tokens in `foreign` these are the ids of the joined text. Otherwise it is encoded
        in parts, each of these tokens cut behind its first character.
        """
        text = before + foreign + after
        start, ids = 0, []
        for cut in self._cuts(foreign):
            ids += self._encode(text[start : len(before) + cut])
            start = len(before) + cut
        return [*ids, *self._encode(text[start:])]

    def _cuts(self, text: str) -> Iterator[int]:
        found = self._mark.search(text)
        while found is not None:
            yield found.start() + 1
            found = self._mark.search(text, found.start() + 1)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids
