"""Ids to text, one id at a time, without ever cutting a character in half."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_LONGEST_CHARACTER = 8  # ids; past that the bytes are no character at all
_WINDOW = 16  # ids that are decoded again with each new one


class Detokenizer:
    """Turns a stream of ids into pieces of text. Undecodable bytes come out as U+FFFD, late."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []  # ids whose text was given, then ids that wait
        self._given = 0
        self._given_text = ""

    def feed(self, token_id: int) -> str:
        """The text that `token_id` completes, often empty in the middle of a character."""
        self._window.append(token_id)
        text = self._decode(self._window)
        waiting = len(self._window) - self._given
        if text.endswith("\ufffd") and waiting < _LONGEST_CHARACTER:
            return ""
        piece = text[len(self._given_text) :]
        if len(self._window) < _WINDOW:
            self._given, self._given_text = len(self._window), text
        else:
            # Keep the last ids as left context: some tokenizers drop a leading space otherwise.
            self._window = self._window[self._given :]
            self._given = len(self._window)
            self._given_text = self._decode(self._window)
        return piece
