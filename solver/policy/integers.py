r"""Read a LaTeX expression as an integer, safely: hostile input costs microseconds, never memory.

Safe by construction rather than by a time limit, so that it works in any thread: the length of the
input, the depth of nesting and the size of every value on the way are bounded, and sizes are
estimated before computing.
"""

from __future__ import annotations

import re
from fractions import Fraction

from solver.policy.arithmetic import Reader
from solver.policy.exact import Unreadable

MAX_CHARS = 512

_SIGNS = str.maketrans("\u2212\ufe63\uff0d×·⋅÷\u2009\u202f\xa0$", "---***/~~~ ")
_STYLE = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|rm|bf|it)(?![A-Za-z])|\\[()\[\]$]"
)
_MARK = re.compile(r"\\.|[{}()\[\]=]", re.DOTALL)
_RELATION = (
    "ne|neq|not|in|pm|mp|or|and|lor|land|to|le|leq|lt|ll|ge|geq|gt|gg|approx|sim|simeq|cong|equiv"
)
_NAME = re.compile(
    rf"(?:[A-Za-z0-9_^{{}}|+\-*/'!~\s]|\\[,;:!|{{}} ]|\([^()]*\)"
    rf"|\\(?!(?:{_RELATION})(?![A-Za-z]))[A-Za-z]+(?![A-Za-z]))*"
)
_LETTER = re.compile("[A-Za-z]")
_SEVERAL = re.compile(r"\b(?:or|and)\b")


def read_integer(expression: str) -> int | None:
    r"""The integer that `expression` stands for, or None: no integer, several, or not understood.

    Understands digits with separators (`1{,}234`, `1,234`, `336\_000`), `1e5`, sums, products,
    quotients, powers, `!`, `\frac`, `\sqrt`, `\binom`, brackets, wrappers such as `\text{}`, a name
    in front (`x = 7`) and a unit behind (`17\text{ cm}`, `17^\circ`; `17\%` is 17). `100,200` is one
    number, `(1,234)` is a pair. Gives up on more than `MAX_CHARS` characters and on values of more
    than `exact.MAX_BITS` bits.
    """
    text = expression.strip()
    if len(text) > MAX_CHARS:
        return None
    text = _STYLE.sub(" ", text.translate(_SIGNS)).strip().removesuffix(".")
    try:
        value = _statement(text, 0)
    except Unreadable:
        return None
    return value.numerator if value.denominator == 1 else None


def _statement(text: str, depth: int) -> Fraction:
    """The value of `side = ... = last`, of which all sides before the last are names or agree."""
    *others, last = _sides(text)
    value = Reader(last, depth, _statement).whole()
    if not all(_says_only(value, side, depth) for side in others):
        raise Unreadable
    return value


def _says_only(value: Fraction, side: str, depth: int) -> bool:
    """Whether `side = value` is a way to write the value: `x =`, `m+n =`, `2^{10} =`."""
    try:
        return Reader(side, depth, _statement).whole() == value
    except Unreadable:
        if not side.strip():
            return True
        named = _NAME.fullmatch(side) is not None and _LETTER.search(side) is not None
        return named and not side.endswith("!") and _SEVERAL.search(side) is None


def _sides(text: str) -> list[str]:
    """`text` cut at every `=` that is outside of brackets."""
    sides: list[str] = []
    start = level = 0
    for mark in _MARK.finditer(text):
        if mark[0] in ("{", "(", "["):
            level += 1
        elif mark[0] in ("}", ")", "]"):
            level -= 1
        elif mark[0] == "=" and level == 0:
            sides.append(text[start : mark.start()])
            start = mark.end()
    return [*sides, text[start:]]
