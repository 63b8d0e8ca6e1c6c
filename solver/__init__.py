"""A solver for maths competitions: sample many tool-using trajectories, prune early, finish the best, vote.

    from solver import Problem, Solver, load_config

docs/api.md is the guide. A name is imported when it is first used: `import solver` alone is instant, and
torch is imported when a `Solver` opens its model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from solver.api import Result, Solver, solve
    from solver.runs.settings import load_config
    from solver.types import Problem

__all__ = ["Problem", "Result", "Solver", "load_config", "solve"]

_HOMES = {
    "Problem": "solver.types",
    "Result": "solver.api",
    "Solver": "solver.api",
    "load_config": "solver.runs.settings",
    "solve": "solver.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
