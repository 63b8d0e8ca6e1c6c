r"""Find the `\boxed{...}` of a text that are its author's own: not quoted, not code, not output.

Everything here takes time linear in the length of the text, whatever the text is.
"""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_QUOTE = re.compile(r"[ \t]*>(?!=)")
_OPENING = re.compile(r"[ \t]*(`{3,})[^`]*$|[ \t]*(~{3,})")
_LATE_OPENING = re.compile(r"(?<!`)(`{3,})\w*[ \t]*$")  # "so we run: ```python"
_CLOSING = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*(?=$|<[|/])")  # a control token may stand behind
_TICKS = re.compile(r"`+")

_HIDDEN = "\0"  # stands for what was hidden, so that a box with code inside cannot be read


def boxed(text: str) -> list[str]:
    r"""Contents of every `\boxed{}` and `\fbox{}` in `text`, in order of appearance.

    A box inside a box is part of the outer one. A box that is never closed is no box, but closed
    boxes behind its opening are. Boxes in fenced blocks, inline code and lines quoted with `>` do
    not count; a fence that is never closed hides the rest of the text.
    """
    own = _own_text(text)
    closing = closing_braces(own)
    contents = []
    outer_end = -1
    for box in _BOX.finditer(own):
        start = box.end()
        if start > outer_end and start in closing:
            outer_end = closing[start]
            contents.append(own[start + 1 : outer_end])
    return contents


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


def _own_text(text: str) -> str:
    """`text` without fenced blocks, quoted lines and inline code."""
    kept: list[str] = []
    fence = ""
    for line in text.splitlines():
        if fence:
            closing = _CLOSING.match(line)
            if closing is None or not closing[1].startswith(fence):
                continue
            fence, line = "", line[closing.end() :]
        elif opening := _OPENING.match(line):
            fence, line = opening[1] or opening[2], _HIDDEN
        elif (opening := _LATE_OPENING.search(line)) and _is_first(opening):
            fence, line = opening[1], line[: opening.start()] + _HIDDEN
        kept.append(_HIDDEN if _QUOTE.match(line) else _without_inline_code(line))
    return "\n".join(kept)


def _is_first(ticks: re.Match[str]) -> bool:
    """Whether these backticks open something: those before them on their line come in pairs."""
    return ticks.string.count(ticks[1], 0, ticks.start()) % 2 == 0


def _without_inline_code(line: str) -> str:
    """`line` with every span between two runs of equally many backticks hidden."""
    runs = [(run.start(), run.end()) for run in _TICKS.finditer(line)]
    if not runs:
        return line
    last = {end - start: place for place, (start, end) in enumerate(runs)}
    kept: list[str] = []
    shown_from = place = 0
    while place < len(runs):
        start, end = runs[place]
        width = end - start
        if last[width] > place:
            place += 1
            while runs[place][1] - runs[place][0] != width:
                place += 1
            kept += [line[shown_from:start], _HIDDEN]
            shown_from = runs[place][1]
        place += 1
    return "".join([*kept, line[shown_from:]])
