"""Packages that only some commands need: whether they are here, and which extra of ours installs them.

The extras are those of pyproject.toml, as the installed distribution's metadata repeats them.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, distributions, requires
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from solver.cli.python import place, python
from solver.errors import ConfigError

DISTRIBUTION = "stop-solver"
_EXTRA = re.compile(r'\bextra == "([^"]+)"')  # in a requirement's marker


def require(what: str, *modules: str) -> None:
    """Raise `ConfigError` for the first of `modules` that is not installed; `what` is what needs it."""
    for module in modules:
        if find_spec(module) is None:
            raise ConfigError(f"{what} needs {canonicalize_name(module)}: {install(module)}")


def install(module: str) -> str:
    """The command that brings a module, named as it is imported, to where this runs.

    `python -m pip install --editable '.[train]'` in a clone, and `'stop-solver[train]'` where our wheel was
    installed.
    """
    pip = f"{python()} -m pip install"
    if (extra := extra_of(module)) is None:
        return f"{pip} {canonicalize_name(module)}"
    clone = _clone()
    if clone is None:
        return f"{pip} '{DISTRIBUTION}[{extra}]'"
    return f"{pip} --editable '{place(clone)}[{extra}]'"


def _clone() -> Path | None:
    """The folder of our source, if it is installed as it is; None for an installed wheel."""
    # An editable install leaves an egg-info in the clone too, which does not tell where it came from.
    told = (found.read_text("direct_url.json") for found in distributions(name=DISTRIBUTION))
    source = json.loads(next(filter(None, told), "{}"))
    if not source.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlsplit(source["url"]).path))


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
