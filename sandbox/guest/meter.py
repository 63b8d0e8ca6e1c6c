"""Counts what a cell writes and sends, and ends it past the bounds, with its variables kept."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

MESSAGE_BYTES = 2 << 10  # what a message counts besides its text
FLUSHES, FLUSH_S = 1000, 0.02  # so many flushes a cell, and then one in that time


class OutputLimitError(BaseException):
    """A cell wrote too much; not an `Exception`, so that a cell's own handlers let it pass."""


class Meter:
    """Counts what a cell writes; past the bound the cell is stopped and the rest is dropped.

    `most` characters, shown values included, and `sent` bytes of messages a cell.
    """

    def __init__(self, most: int, sent: int) -> None:
        self.most, self.most_sent = most, sent
        self.flushed = 0.0
        self.running = False
        self.reset()

    def starts(self, *_: object) -> None:
        """A cell starts."""
        self.running = True
        self.reset()

    def reset(self) -> None:
        """Start counting anew."""
        self.left, self.left_to_send, self.flushes, self.told = self.most, self.most_sent, 0, False

    def may_send(self, text: str, *, shown: bool) -> bool:
        """Count a message with this text; past the bound the cell is stopped.

        `shown`: the text was not written, so it counts as if it had been.
        """
        self.left_to_send -= MESSAGE_BYTES + len(json.dumps(text, ensure_ascii=False))
        if self.left_to_send < 0 or (shown and len(text) > self.left):
            self.stop()
            return False
        if shown:
            self.left -= len(text)
        return True

    def wrap(self, write: Callable[[str], Any]) -> Callable[[str], Any]:
        """A `write` that counts."""

        def metered(text: str) -> Any:
            if not isinstance(text, str) or len(text) <= self.left:
                if isinstance(text, str):
                    self.left -= len(text)
                return write(text)
            kept, self.left = text[: self.left], 0
            if kept:
                write(kept)
            self.stop()
            return len(text)

        return metered

    def calm(self, flush: Callable[[], None]) -> Callable[[], None]:
        """A `flush` that a loop may call after every line: past some number it is done now and then."""

        def calmed() -> None:
            self.flushes += 1
            now = time.monotonic()
            if not self.running or self.flushes <= FLUSHES or now - self.flushed > FLUSH_S:
                self.flushed = now
                flush()

        return calmed

    def stop(self) -> None:
        """End the cell: by an exception in the main thread, by a signal from any other."""
        if threading.current_thread() is threading.main_thread():
            raise OutputLimitError(f"more than {self.most} characters of output; cell stopped")
        if not self.told:  # e.g. a child process that floods descriptor 1
            self.told = True
            os.killpg(os.getpgrp(), signal.SIGINT)
