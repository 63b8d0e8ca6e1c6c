"""Packages that only some commands need: whether they are here, and which extra of ours installs them.

The extras are those of pyproject.toml, as the installed distribution's metadata repeats them.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from solver.errors import ConfigError

DISTRIBUTION = "stop-solver"
_EXTRA = re.compile(r'\bextra == "([^"]+)"')  # in a requirement's marker


def require(what: str, *modules: str) -> None:
    """Raise `ConfigError` for the first of `modules` that is not installed; `what` is what needs it."""
    for module in modules:
        if find_spec(module) is None:
            raise ConfigError(f"{what} needs {canonicalize_name(module)}: {install(module)}")


def install(module: str) -> str:
    """`pip install 'stop-solver[train]'`: the command that brings a module, named as it is imported."""
    extra = extra_of(module)
    wanted = f"'{DISTRIBUTION}[{extra}]'" if extra is not None else canonicalize_name(module)
    return f"pip install {wanted}"


def extra_of(module: str) -> str | None:
    """The first extra that installs a module; None if there is none."""
    try:
        declared = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:  # a clone on the path that was never installed
        return None
    for requirement in declared:
        if canonicalize_name(requirement.name) == canonicalize_name(module):
            found = _EXTRA.search(str(requirement.marker))
            return found[1] if found else None
    return None
