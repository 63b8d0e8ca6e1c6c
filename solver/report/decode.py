"""Ids to text by the tokenizer in the run's model folder, if it is still there.

Only tokenizer.json is read, so that no report waits for torch or transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


class Decoder:
    """Decodes in batches; `missing` says why there is no text, or is empty."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer, self.missing = _load(folder / "tokenizer.json")

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str] | None:
        """The texts, special tokens shown; None without a tokenizer, or for ids that are not its own."""
        if self._tokenizer is None:
            return None
        try:
            texts = self._tokenizer.decode_batch(
                [list(some) for some in ids if some], skip_special_tokens=False
            )
        except (OverflowError, TypeError):
            return None
        found: Iterator[str] = iter(texts)
        return [next(found) if some else "" for some in ids]


def _load(file: Path) -> tuple[Any, str]:
    from tokenizers import Tokenizer

    if not file.is_file():
        return None, f"there is no {file}; with it the report shows what the model wrote"
    try:
        return Tokenizer.from_file(str(file)), ""
    except Exception as error:  # the library raises bare exceptions
        return None, f"{file} cannot be read ({error}), so what the model wrote is not shown"
