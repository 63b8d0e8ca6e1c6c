"""From a name to a declaration: our scorers, and those of installed packages.

A package offers a scorer by an entry point in the group `stop_solver.scorers`, whose name is the
scorer's and whose value is its `ScorerDeclaration`. Names are known without importing anything; a
declaration is imported when it is asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from solver.errors import ConfigError, named
from solver.scorers.declaration import ScorerDeclaration

GROUP = "stop_solver.scorers"

# From what needs the least to what needs the most, then the methods without scores. Texts, so that
# nothing is imported before it is asked for.
BUILT_IN = {
    "similarity": "solver.scorers.similarity:SIMILARITY",
    "failed-tool-calls": "solver.scorers.calls:FAILED_CALLS",
    "confidence": "solver.scorers.confidence:CONFIDENCE",
    "entropy": "solver.scorers.confidence:ENTROPY",
    "deepconf": "solver.scorers.confidence:DEEPCONF",
    "reward": "solver.scorers.reward:REWARD",
    "probe": "solver.scorers.probe:PROBE",
    "stop": "solver.scorers.stop:STOP",
    "stop+confidence": "solver.scorers.stop:STOP_AND_CONFIDENCE",
    "random": "solver.scorers.unscored:RANDOM",
    "none": "solver.scorers.unscored:NONE",
}


def scorer_names() -> tuple[str, ...]:
    """Every name that `--scorer` takes: ours, then those of installed packages."""
    return (*BUILT_IN, *(name for name in sorted(_installed()) if name not in BUILT_IN))


@cache
def find_scorer(name: str) -> ScorerDeclaration:
    """The declaration of a scorer. Raises `ConfigError` for a name that means none, or two."""
    offered = _installed().get(name, ())
    if name in BUILT_IN:
        if offered:
            raise ConfigError(
                f"the scorer {name!r} is built in, and {_packages(offered)} offers one of that name"
                " too: uninstall that package"
            )
        offered = (EntryPoint(name, BUILT_IN[name], GROUP),)
    if not offered:
        names = scorer_names()
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise ConfigError(f"unknown scorer {name!r}; {hint}")
    if len(offered) > 1:
        raise ConfigError(
            f"the scorer {name!r} is offered by {_packages(offered)}: uninstall all but one"
        )
    return _loaded(offered[0])


def built_in() -> Iterator[ScorerDeclaration]:
    """The declarations of our own scorers."""
    return map(find_scorer, BUILT_IN)


def gives_chances(name: str) -> bool:
    """Whether scores under that name are logits of "ends right"; False for a scorer unknown here."""
    try:
        return find_scorer(name).gives_chances
    except ConfigError:  # the run that is read may be of a package that is not installed here
        return False


def names_with_chances() -> list[str]:
    """The scorers by which a vote may be weighed, sorted; a package that is broken has none."""
    return sorted(filter(gives_chances, scorer_names()))


@cache
def _installed() -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _packages(offered: tuple[EntryPoint, ...]) -> str:
    return " and ".join(sorted(point.dist.name if point.dist else "?" for point in offered))


def _loaded(point: EntryPoint) -> ScorerDeclaration:
    whose = f"the scorer {point.name!r} of {_packages((point,))}"
    try:
        declaration = point.load()
    except Exception as error:  # the boundary: another package's code fails as it likes
        reason = " ".join(named(error).split())
        raise ConfigError(
            f"{whose} cannot be imported: {reason}; mend or uninstall that package"
        ) from error
    if not isinstance(declaration, ScorerDeclaration):
        raise ConfigError(
            f"{whose} is not a ScorerDeclaration: {point.value} is a {type(declaration).__name__}"
        )
    if declaration.name != point.name:
        raise ConfigError(f"{whose} calls itself {declaration.name!r}: both names must be the same")
    return declaration
