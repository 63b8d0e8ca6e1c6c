r"""Find the `\boxed{...}` of a turn that are its author's own: not code, not output, not quoted in passing.

Everything here takes time linear in the length of the text, whatever the text is.
"""

from __future__ import annotations

import re

from solver.policy.fences import Fences, fences_of

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
# \boxed 42: TeX would frame the 4 alone. Not if it goes on as a larger expression.
_BARE = re.compile(r"[+-]?[0-9]++(?:[.,][0-9]++)*+(?![A-Za-z]|\s*(?:[0-9^_/!*+=({-]|\\[A-Za-z%]))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_CLOSING_PART = 200  # characters of own words that may follow a box shown in a block or a quote


def boxed(text: str, *, concluding: bool = True) -> list[str]:
    r"""Contents of every `\boxed{}` and `\fbox{}` that counts in a turn; see `boxes_of`."""
    return boxes_of(fences_of(text), concluding=concluding)


def boxes_of(fences: Fences, *, concluding: bool = True) -> list[str]:
    r"""Contents of the boxes that count in a turn that was read, in order of appearance.

    A box inside a box is part of the outer one. A box that is never closed is no box, but closed
    boxes behind its opening are; `\boxed 42` is one. Boxes in blocks of code never count. In a turn
    that concludes, boxes in plain or LaTeX blocks, in inline code and in quotes count if it has no
    other and they stand near its end.
    """
    own = _boxes("\n".join(fences.own))
    return own if own or not concluding else _shown_at_the_end(fences)


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


def _boxes(text: str) -> list[str]:
    closing = closing_braces(text)
    contents = []
    outer_end = -1
    for box in _BOX.finditer(text):
        start = box.end()
        if start <= outer_end:
            continue
        if start in closing:
            outer_end = closing[start]
            contents.append(text[start + 1 : outer_end])
        elif bare := _BARE.match(text, start):
            contents.append(bare[0])
    return contents


def _shown_at_the_end(fences: Fences) -> list[str]:
    """Boxes of the asides behind which at most `_CLOSING_PART` characters of own words follow."""
    contents: list[str] = []
    line, room = len(fences.own), _CLOSING_PART
    for aside in reversed(fences.asides):
        room -= sum(map(len, fences.own[aside.line : line]))
        line = aside.line
        if room < 0:
            break
        contents = [*_boxes(aside.text), *contents]
    return contents
