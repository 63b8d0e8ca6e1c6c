r"""Find the `\boxed{...}` of a turn that are its author's own: not code, not output, not quoted in passing.

Everything here takes time linear in the length of the text, whatever the text is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from solver.policy.braces import closing_braces
from solver.policy.fences import THOUGHT_END, Fences, fences_of
from solver.policy.integers import read_integer

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
# \boxed 42: TeX would frame the 4 alone. Not if it goes on as a larger expression.
_BARE = re.compile(r"[+-]?[0-9]++(?:[.,][0-9]++)*+(?![A-Za-z]|\s*(?:[0-9^_/!*+=({-]|\\[A-Za-z%]))")
_CLOSING_PART = 200  # characters of own words that may follow a box shown in a block or a quote


def boxed(text: str, *, concluding: bool = True) -> list[str]:
    r"""Contents of every `\boxed{}` and `\fbox{}` that counts in a turn; see `boxes_of`."""
    return boxes_of(fences_of(text), concluding=concluding)


def boxes_of(fences: Fences, *, concluding: bool = True) -> list[str]:
    r"""Contents of the boxes that count in a turn that was read, in order of appearance.

    A box inside a box is part of the outer one. A box that is never closed is no box, but closed
    boxes behind its opening are; `\boxed 42` is one. Boxes in blocks of code never count. In a turn
    that concludes, boxes in plain or LaTeX blocks, in inline code and in quotes count if it has no
    other and they stand near its end. What stands behind a thought is looked at by itself, and of the boxes
    in the thought only integers count: it also speaks of `\boxed{}` as such.
    """
    if not concluding:
        return _boxes("\n".join(fences.own))
    thought, said, line = _parted(fences.own)
    thought_of = [content for content in _boxes(thought) if read_integer(content) is not None]
    concluded = _boxes(said) or _shown_at_the_end(fences, line)
    return thought_of + concluded or _shown_at_the_end(fences)


def _parted(lines: Sequence[str]) -> tuple[str, str, int]:
    """The thought up to the last `</think>`, what is said behind it, and the line where that begins."""
    for number in range(len(lines) - 1, -1, -1):
        if "</think>" in lines[number] and (ends := [*THOUGHT_END.finditer(lines[number])]):
            before, behind = lines[number][: ends[-1].start()], lines[number][ends[-1].end() :]
            thought = "\n".join([*lines[:number], before])
            return thought, "\n".join([behind, *lines[number + 1 :]]), number
    return "", "\n".join(lines), 0


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


def _shown_at_the_end(fences: Fences, from_line: int = 0) -> list[str]:
    """Boxes of the asides behind which at most `_CLOSING_PART` characters of own words follow."""
    contents: list[str] = []
    line, room = len(fences.own), _CLOSING_PART
    for aside in reversed(fences.asides):
        room -= sum(map(len, fences.own[aside.line : line]))
        line = aside.line
        if room < 0 or line < from_line:
            break
        contents = [*_boxes(aside.text), *contents]
    return contents
