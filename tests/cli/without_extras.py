"""Run a module as a program, `python without_extras.py MODULE ARGUMENTS`, as if no extra were installed."""

from __future__ import annotations

import runpy
import sys
import tomllib
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def hidden_modules() -> set[str]:
    """What the packages that pyproject.toml's extras name are imported as, where they are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    named = {canonicalize_name(Requirement(line).name) for extra in extras for line in extra}
    named.discard(canonicalize_name(project["name"]))
    return {
        module
        for module, distributions in packages_distributions().items()
        if named & {canonicalize_name(name) for name in distributions}
    }


class WithoutExtras(PathFinder):
    """Finds every module but those that an extra brings."""

    hidden: frozenset[str] = frozenset()

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in cls.hidden:
            return None
        return super().find_spec(fullname, path, None)


if __name__ == "__main__":
    WithoutExtras.hidden = frozenset(hidden_modules())
    sys.meta_path[:] = [WithoutExtras if one is PathFinder else one for one in sys.meta_path]
    sys.path[0] = str(ROOT)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
