"""Gathers what a cell writes, bounded while it is read."""

from __future__ import annotations

import re
from typing import Any

from sandbox.result import head_and_tail

_TERMINAL_CODES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_]|)"
)
ERROR_BYTES = 4_000  # most that is kept of a traceback


class Output:
    """The output of one cell: at most `accepted_bytes` of it are kept, the rest is only counted.

    Everything a kernel sends is untrusted: what is not text where text belongs is left out.
    """

    def __init__(self, accepted_bytes: int) -> None:
        self._most = accepted_bytes
        self._parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self.bytes = 0
        self.error = ""

    @property
    def full(self) -> bool:
        """Whether the cell has written more than is accepted."""
        return self.bytes >= self._most

    def add(self, kind: str, content: dict[str, Any]) -> None:
        """Take one IOPub message of the cell."""
        if kind == "stream":
            stream = "stderr" if content.get("name") == "stderr" else "stdout"
            self._append(stream, content.get("text"))
        elif kind in ("execute_result", "display_data"):
            data = content.get("data")
            text = data.get("text/plain") if isinstance(data, dict) else None
            if isinstance(text, str):
                self._break_line("stdout")
                self._append("stdout", text + "\n")
        elif kind == "error":
            lines = content.get("traceback")
            if isinstance(lines, list):
                texts = (line for line in lines if isinstance(line, str))
                self.add_error(content.get("ename"), "\n".join(texts))

    def add_error(self, name: object, text: str) -> None:
        """Note the exception that ended the cell, unless it is known already."""
        if not self.error and isinstance(name, str):
            told = name[:200].encode("utf-8", "backslashreplace").decode()
            self.error = told or "an error without a name"
            if text not in self.text("stderr"):  # IPython prints a few kinds itself
                # Kept even where the output is full: it says what went wrong.
                self._break_line("stderr")
                self._parts["stderr"].append(head_and_tail(text, ERROR_BYTES) + "\n")

    def text(self, stream: str) -> str:
        """What was kept of `stdout` or `stderr`, as a terminal would leave it: plain text."""
        text = _TERMINAL_CODES.sub("", "".join(self._parts[stream]))
        if "\r" in text:  # a progress bar overwrites its line
            text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
        return text

    def _break_line(self, stream: str) -> None:
        parts = self._parts[stream]
        if parts and not parts[-1].endswith("\n"):
            parts.append("\n")

    def _append(self, stream: str, text: object) -> None:
        if not isinstance(text, str) or not text:
            return
        data = text.encode("utf-8", "backslashreplace")
        kept = data[: max(0, self._most - self.bytes)]
        self.bytes += len(data)
        if kept:
            self._parts[stream].append(kept.decode(errors="ignore"))
