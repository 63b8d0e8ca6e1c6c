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
from solver.policy.names import is_name

MAX_CHARS = 512

_SIGNS = str.maketrans(
    "\u2212\ufe63\uff0d\uff0b\uff1d\uff08\uff09\uff0c\uff0e０１２３４５６７８９×·⋅÷\u2009\u202f\xa0$€£¥₹",
    "---+=(),.0123456789***/~~~     ",
)
_STYLE = re.compile(
    r"\\(?:left|right)\s*\.|\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|rm|bf|it)(?![A-Za-z])"
    r"|\\[()\[\]$]|\\(?:text)?color(?:box)?\s*\{[A-Za-z0-9!]*\}"
)
_END = re.compile(r"[\\\s]+$")  # a space of TeX too
_BOLD = re.compile(r"(\*\*|__)([^*_]+)\1")
_FACE = r"\\(?:text|math)(?:bf|rm|it|sf|tt)?\s*\{\s*"
_CHOICE = re.compile(  # the letter of a multiple choice
    rf"\s*(?:{_FACE}(?:\([A-J]\)|[A-J][).:])\s*\}}|\([A-J]\))(?:[\s:~]|\\[,;:! ]|\\q?quad(?![A-Za-z]))*"
)
_MARK = re.compile(r"\\.|[{}()\[\]=]", re.DOTALL)


def read_integer(expression: str) -> int | None:
    r"""The integer that `expression` stands for, or None: no integer, several, or not understood.

    Understands digits with separators (`1{,}234`, `1,234`, `336\_000`), `1e5`, sums, products,
    quotients, powers, `!`, `\frac`, `\sqrt`, `\binom`, brackets, wrappers such as `\text{}`, a name
    in front (`x = 7`) or behind (`7 = x`), a unit behind (`17 cm`, `17^\circ`; `17\%` is 17) and the
    letter of a choice (`\textbf{(E)} 17`). `100,200` is one number, `(1,234)` is a pair, and `3x = 15`
    is an equation to be solved. Gives up on more than `MAX_CHARS` characters and on values of more
    than `exact.MAX_BITS` bits.
    """
    if len(expression.strip()) > MAX_CHARS:
        return None
    text = _STYLE.sub(" ", expression.translate(_SIGNS))
    text = _END.sub("", text).strip().removesuffix(".")
    if bold := _BOLD.fullmatch(text):
        text = bold[2]
    try:
        value = _statement(text, 0)
    except Unreadable:
        return None
    return value.numerator if value.denominator == 1 else None


def _statement(text: str, depth: int) -> Fraction:
    """The one value in `side = side = ...`, of which all other sides agree or are names."""
    choice = _CHOICE.match(text)
    sides = _sides(text[choice.end() :] if choice else text)
    values = [_value(side, depth) for side in sides]
    known = {value for value in values if value is not None}
    for place, (side, value) in enumerate(zip(sides, values, strict=True)):
        nothing_named = place == 0 and not side.strip()  # "= 7"
        if value is None and not nothing_named and not is_name(side, first=place == 0):
            raise Unreadable
    if len(known) != 1:
        raise Unreadable
    return known.pop()


def _value(side: str, depth: int) -> Fraction | None:
    try:
        return Reader(side, depth, _statement).whole()
    except Unreadable:
        return None


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
