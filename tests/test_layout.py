"""What a newcomer meets first: few files at the root of the solver, and folders that say what they own."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_root_of_the_solver_has_at_most_twelve_modules() -> None:
    assert len(list((ROOT / "solver").glob("*.py"))) <= 12


def test_every_package_says_what_it_owns() -> None:
    silent = [
        str(path.parent)
        for package in ("solver", "sandbox", "submissions")
        for path in (ROOT / package).rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent
