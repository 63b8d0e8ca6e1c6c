"""LaTeX in other people's text: found, and turned into a small tree of MathML that a browser draws.

The tree is built through an allow-list of elements and attributes (no links, styles or classes). A
formula that the library cannot read, or reads only in part, is left as its source.

A formula is `{"m": tree, "s": source}`, a tree `[tag, attributes, *children]`, a leaf's child its text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element

Tree = list[Any]

_LONGEST = 1000  # characters of a formula; nothing written by hand is longer
_DEEPEST = 40  # elements inside one another
_CLOSERS = {"\\[": "\\]", "\\(": "\\)", "$$": "$$", "$": "$"}
_OPENER = re.compile(r"\\\[|\\\(|\$\$|\$")
_CHILDREN = {
    "mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2, "munderover": 3,
    "mroot": 2,
}  # fmt: skip
_LEAVES = frozenset({"mi", "mn", "mo", "ms", "mtext", "mspace"})
_TAGS = (
    frozenset({"math", "mrow", "msqrt", "mtable", "mtr", "mtd", "mpadded", "mphantom", "menclose"})
    | {"mstyle"} | _LEAVES | frozenset(_CHILDREN)
)  # fmt: skip
_ATTRIBUTES = frozenset({
    "display", "mathvariant", "stretchy", "fence", "form", "separator", "accent", "accentunder",
    "lspace", "rspace", "linethickness", "columnalign", "rowspacing", "columnspacing", "width",
    "displaystyle", "scriptlevel", "minsize", "maxsize", "movablelimits", "largeop", "symmetric",
    "notation",
})  # fmt: skip
_VALUE = re.compile(r"[\w .%#+-]{0,64}", re.ASCII)


def with_formulas(text: str) -> list[str | dict[str, Any]]:
    """`text` in pieces: plain strings, and formulas where they could be read."""
    pieces: list[str | dict[str, Any]] = []
    given = 0
    for begin, end, source, display in _formulas(text):
        tree = mathml(source, display)
        if tree is not None:
            pieces += [text[given:begin]] if begin > given else []
            pieces.append({"m": tree, "s": text[begin:end]})
            given = end
    return [*pieces, text[given:]] if given < len(text) else pieces


@lru_cache(maxsize=4096)
def mathml(source: str, display: bool) -> Tree | None:
    """The tree of a formula, or None if it cannot be read or holds what is not allowed."""
    from latex2mathml.converter import convert_to_element

    try:
        element = convert_to_element(source, display="block" if display else "inline")
        return _tree(element, _DEEPEST)
    except (Exception, RecursionError):  # the boundary: any text can stand between two dollars
        return None


def _formulas(text: str) -> Iterator[tuple[int, int, str, bool]]:
    position = 0
    while opener := _OPENER.search(text, position):
        position, closer = opener.end(), _CLOSERS[opener[0]]
        end = text.find(closer, position, position + _LONGEST + len(closer))
        if end < 0 or text[opener.start() - 1 : opener.start()] == "\\":
            continue
        source = text[position:end]
        after = text[end + len(closer) : end + len(closer) + 1]
        if source.strip() and (opener[0] != "$" or _is_no_price(source, after)):
            position = end + len(closer)
            yield opener.start(), position, source, opener[0] in ("\\[", "$$")


def _is_no_price(source: str, after: str) -> bool:
    """Single dollars are money more often than mathematics where space or a number is beside them."""
    touching = not source[0].isspace() and not source[-1].isspace()
    return touching and "\n" not in source and source[-1] != "\\" and not after.isdigit()


def _tree(element: Element, room: int) -> Tree:
    tag, children = element.tag, list(element)
    if room == 0 or tag not in _TAGS or len(children) != _CHILDREN.get(tag, len(children)):
        raise ValueError(f"not drawn: {tag}")
    attributes = {
        name: value
        for name, value in element.attrib.items()
        if name in _ATTRIBUTES and _VALUE.fullmatch(value)
    }
    if tag not in _LEAVES:
        return [tag, attributes, *(_tree(child, room - 1) for child in children)]
    text = html.unescape(element.text or "")
    if tag == "mi" and text.startswith("\\"):
        raise ValueError(f"unknown command {text}")
    return [tag, attributes, text]
