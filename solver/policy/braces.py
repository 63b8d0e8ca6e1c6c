"""Which brace of a LaTeX text closes which."""

from __future__ import annotations

import re

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def closing_braces(text: str) -> dict[int, int]:
    r"""Where each `{` that is closed is closed, by index into `text`. `\{` and `\}` are no braces."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            closing[opened.pop()] = brace.start()
    return closing
