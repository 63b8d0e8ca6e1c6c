"""Formulas: what is one, and that nothing but harmless MathML comes out, whatever goes in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.report.math import _ATTRIBUTES, _TAGS, mathml, with_formulas


def sources(text: str) -> list[str]:
    return [piece["s"] for piece in with_formulas(text) if isinstance(piece, dict)]


def nodes(tree: list[Any]) -> Iterator[list[Any]]:
    yield tree
    for child in tree[2:]:
        if isinstance(child, list):
            yield from nodes(child)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so $x^2$ is", ["$x^2$"]),
        ("\\(a\\) and \\[b\\] and $$c$$", ["\\(a\\)", "\\[b\\]", "$$c$$"]),
        ("it costs $5 and $6 more", []),
        ("from $5 to 7$8", []),
        ("\\$x$ and $y", []),
        ("$unclosed and \\( too", []),
        ("$\\frac{1}$ $x^$ ${$ $\\nosuchcommand$", []),
        ("$$$$ $ $", []),
        ("$a$$b$", ["$a$", "$b$"]),
    ],
)
def test_what_a_formula_is(text: str, found: list[str]) -> None:
    pieces = with_formulas(text)
    assert sources(text) == found
    assert "".join(p if isinstance(p, str) else p["s"] for p in pieces) == text


def test_a_tree() -> None:
    tree = mathml("\\frac{a}{2} < b", False)
    assert tree is not None
    assert [node[0] for node in nodes(tree)] == [
        "math", "mrow", "mfrac", "mrow", "mi", "mrow", "mn", "mo", "mi",
    ]  # fmt: skip
    assert [node[2] for node in nodes(tree) if node[0] == "mo"] == ["<"]


@pytest.mark.parametrize(
    "source",
    [
        "\\href{javascript:alert(1)}{x}",
        "\\style{position:fixed}{x}",
        "\\class{bar}{x}",
        "\\color{red}{x}",
        "\\text{<script>alert(1)</script>}",
        "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
    ],
)
def test_only_what_is_allowed_comes_out(source: str) -> None:
    tree = mathml(source, True)
    assert tree is not None
    for tag, attributes, *_ in nodes(tree):
        assert tag in _TAGS
        assert attributes.keys() <= _ATTRIBUTES


def test_deep_and_long_formulas_are_left_alone() -> None:
    for text in ("$" + "{" * 90 + "x" + "}" * 90 + "$", "$" + "x" * 5000 + "$", "\\[" * 30_000):
        assert sources(text) == []


@given(st.text(alphabet="\\$()[]{}^_&ax1 \n%~'", max_size=60))
def test_no_text_is_lost_and_none_breaks_it(text: str) -> None:
    pieces = with_formulas(text)
    assert "".join(p if isinstance(p, str) else p["s"] for p in pieces) == text
