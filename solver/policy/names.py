r"""Which side of an equation only gives a value its name: `x =`, `m+n =`, `f(2,3) =`, not `3x =`."""

from __future__ import annotations

import re

_RELATION = (
    "ne|neq|not|in|ni|pm|mp|or|and|lor|land|vee|wedge|to|le|leq|lt|ll|ge|geq|gt|gg|approx|sim|simeq"
    "|cong|equiv|mid|iff|implies|therefore|because|mapsto|quad|qquad"
    "|(?:[Ll]ong)?(?:[Ll]eft|[Rr]ight|[Ll]eftright)arrow"
)
_NAME = re.compile(
    rf"(?:[A-Za-z0-9_^{{}}|+\-*/'!~\s]|\\[,;:!|{{}} ]|\([^()]*\)"
    rf"|\\(?!(?:{_RELATION})(?![A-Za-z]))[A-Za-z]+(?![A-Za-z]))*"
)
_LETTER = re.compile("[A-Za-z]")
_SEVERAL = re.compile(r"\b(?:or|and)\b")

_WORDS = re.compile(r"\\(?:text|math|mbox)[a-z]*\s*\{[^{}]*\}")
_NUMBER = r"[0-9]"
_DONE = (
    r"[\^+\-*/]|\\(?:[dt]?frac|sqrt|[dt]?binom|cdot|times|div|log|ln|exp|sin|cos|tan)(?![A-Za-z])"
)
_UNKNOWN = r"(?:\\[A-Za-z]+|[A-Za-z])(?:_(?:[A-Za-z0-9]|\{[^{}]*\}))?'*(?:\([^()]*\))?"
_COORDINATES = {"x", "y", "z"}
_PART = re.compile(rf"(?P<number>{_NUMBER})|(?P<done>{_DONE})|(?P<unknown>{_UNKNOWN})")


def is_name(side: str, *, first: bool) -> bool:
    """Whether `side` names what it equals; only the `first` side may hold numbers, as in `100m+n = 307`.

    Numbers on a later side belong to a second equation: `x = 5 y = 7`. A single unknown to which
    something is done makes an equation to be solved, `3x = 15`, numbers beside coordinates make that of
    a figure, `2x + 3y = 6`.
    """
    if _NAME.fullmatch(side) is None or _LETTER.search(side) is None:
        return False
    if side.endswith("!") or _SEVERAL.search(side):  # n != 7
        return False
    parts = list(_PART.finditer(_WORDS.sub(" ", side)))
    numbers = any(part["number"] for part in parts)
    unknowns = {part["unknown"] for part in parts if part["unknown"]}
    done = numbers or any(part["done"] for part in parts)
    to_be_solved = (len(unknowns) == 1 and done) or (numbers and set() < unknowns <= _COORDINATES)
    return not to_be_solved and (first or not numbers)
