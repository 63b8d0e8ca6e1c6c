"""Fenced blocks, quotes and inline code of what a model writes, read line by line.

By CommonMark's rules, with the leniency that models need: a closing fence may be glued to the code
before it or to a tag behind it, a block may be indented anyhow, and `</think>` ends a block that was
left open. One reader for what is called and for what counts as the model's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

HIDDEN = "\0"  # stands for what is not said in the author's own words

_PYTHON = frozenset({"python", "py", "python3", "py3", "ipython", "ipython3"})
_PLAIN = frozenset({"", "latex", "tex", "math", "text", "txt", "plaintext", "markdown", "md"})

_ITEM = r"[ \t]*+(?:(?:[-*+]|[0-9]{1,9}+[.)])[ \t]++)*+"
_QUOTE = re.compile(_ITEM + r"(?:>[ \t]?)+(?!=)")
_OPENING = re.compile(rf"({_ITEM})(`{{3,}}|~{{3,}})[ \t]*(.*)")
_LATE_OPENING = re.compile(r"(?<!`)(`{3,})([A-Za-z0-9_+#-]*)[ \t\r]*$")  # "so we run: ```python"
_LANGUAGE = re.compile(r"\{?[ \t]*\.?([A-Za-z][A-Za-z0-9_+#-]*)(?=$|[\s:;,{}])")
# A tag or a control token may stand behind a closing fence; a tag that code has in quotes is no tag.
_CLOSING = {kind: re.compile(rf"{kind}{{3,}}(?=[ \t\r]*(?:$|<[|/]))") for kind in "`~"}
THOUGHT_END = re.compile(r"(?<!['\"`])</think>")
_TICKS = re.compile(r"`+")


@dataclass(slots=True)
class Block:
    """A fenced block: its language in lower case, its lines, and whether it is closed.

    `at_line_start` is False for a block that opens behind other words: it is shown, not called.
    """

    fence: str
    language: str = ""
    at_line_start: bool = True
    indent: int = 0
    lines: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def code(self) -> str:
        """What stands in it."""
        return "\n".join(self.lines)

    @property
    def runs(self) -> bool:
        """Whether it is a complete block of Python code on lines of its own."""
        return self.closed and self.at_line_start and self.language in _PYTHON


@dataclass(frozen=True, slots=True)
class Aside:
    """A plain block, a quoted line or inline code; `line` is its place among the lines of `Fences.own`."""

    line: int
    text: str


class Fences:
    """Follows one turn.

    `own` are its lines, with `HIDDEN` for all that is not said in the author's own words. `last` is the
    closed block behind which nothing was written.
    """

    def __init__(self) -> None:
        self.own: list[str] = []
        self.asides: list[Aside] = []
        self.last: Block | None = None
        self._open: Block | None = None

    @property
    def open_fence(self) -> str:
        """The fence that closes the open block; empty if none is open."""
        return self._open.fence if self._open is not None else ""

    def read(self, line: str) -> Block | None:
        """Read a line without its line break; returns the block that it closes."""
        if self._open is None:
            self._outside(line)
            return None
        return self._inside(self._open, line)

    def end(self) -> None:
        """The turn is over: nothing stays open."""
        if self._open is not None:
            self._leave(self._open)

    def _outside(self, line: str) -> None:
        fenced = "```" in line or "~~~" in line
        if ">" in line and (quote := _QUOTE.match(line)):
            self._set_aside(line[quote.end() :])
            self._say(HIDDEN)
        elif fenced and (block := _opened(line)):
            self._open = block
            self._say(HIDDEN)
        elif fenced and (late := _LATE_OPENING.search(line)) and _opens(late):
            self._open = Block(late[1], late[2].lower(), at_line_start=False)
            self._say(line[: late.start()] + HIDDEN)
        elif "`" in line:
            shown, code = _without_inline_code(line)
            for text in code:
                self._set_aside(text)
            self._say(shown)
        else:
            self._say(line)

    def _inside(self, block: Block, line: str) -> Block | None:
        if block.fence in line and (closing := _closed(block, line)):
            if before := line[: closing.start()].rstrip():
                block.lines.append(_dedented(before, block.indent))
            block.closed = True
            self._leave(block)
            if rest := line[closing.end() :].strip():
                self._outside(rest)
            else:
                self.last = block
            return block
        if "</think>" in line and (thought := THOUGHT_END.search(line)):
            block.lines.append(line[: thought.start()])
            self._leave(block)
            self._outside(line[thought.start() :])
        else:
            block.lines.append(_dedented(line, block.indent))
        return None

    def _leave(self, block: Block) -> None:
        if block.language in _PLAIN:
            self._set_aside(block.code)
        self._open = None

    def _set_aside(self, text: str) -> None:
        self.asides.append(Aside(len(self.own), text))

    def _say(self, line: str) -> None:
        if line.strip():
            self.last = None
        self.own.append(line)


def fences_of(text: str) -> Fences:
    """The fences of a whole turn."""
    fences = Fences()
    for line in text.split("\n"):
        fences.read(line)
    fences.end()
    return fences


def _opened(line: str) -> Block | None:
    """The block that `line` opens, if it is an opening fence."""
    opening = _OPENING.match(line)
    if opening is None:
        return None
    indent, fence, info = len(opening[1]), opening[2], opening[3].rstrip()
    language = _LANGUAGE.match(info)
    if fence[0] == "`" and "`" in info:  # inline code
        return None
    if language is None and info:
        # `~~~` are spaces in LaTeX; behind ticks stands what belongs on the next line.
        return Block(fence, indent=indent, lines=[info]) if fence[0] == "`" else None
    return Block(fence, language[1].lower() if language else "", indent=indent)


def _opens(late: re.Match[str]) -> bool:
    """Whether these ticks open something: those before them on their line come in pairs."""
    return late.string.count(late[1], 0, late.start()) % 2 == 0


def _closed(block: Block, line: str) -> re.Match[str] | None:
    """The fence on `line` that closes `block`: alone, or glued to the block's last line of code."""
    kind = block.fence[0]
    closing = _CLOSING[kind].search(line)
    if closing is None or len(closing[0]) < len(block.fence):
        return None
    before = line[: closing.start()]
    glued = kind == "`" and before.count(block.fence) % 2 == 0
    return closing if glued or not before.strip() else None


def _dedented(line: str, indent: int) -> str:
    """`line` without as much white space as stands before the block's opening."""
    white = len(line) - len(line.lstrip(" \t"))
    return line[min(indent, white) :]


def _without_inline_code(line: str) -> tuple[str, list[str]]:
    """`line` with every span between two runs of equally many backticks hidden, and these spans."""
    runs = [(run.start(), run.end()) for run in _TICKS.finditer(line)]
    if not runs:
        return line, []
    last = {end - start: place for place, (start, end) in enumerate(runs)}
    kept: list[str] = []
    code: list[str] = []
    shown_from = place = 0
    while place < len(runs):
        start, end = runs[place]
        width = end - start
        if last[width] > place:
            place += 1
            while runs[place][1] - runs[place][0] != width:
                place += 1
            kept += [line[shown_from:start], HIDDEN]
            code.append(line[end : runs[place][0]])
            shown_from = runs[place][1]
        place += 1
    return "".join([*kept, line[shown_from:]]), code
