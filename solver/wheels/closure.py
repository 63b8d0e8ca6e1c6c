"""Which wheels a requirement needs on the target machine, which is not this one.

pip evaluates markers such as `python_version < "3.12"` for the interpreter that it runs in, also when it
downloads for another one. So the missing wheels are computed here, for the target.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from solver.errors import ConfigError


@dataclass(frozen=True, slots=True)
class WheelFile:
    """A wheel and what its metadata says; `requires` are requirements with their markers."""

    path: Path
    name: str
    version: Version
    requires: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class Unmet:
    """A distribution of which no wheel has a version that all requirements accept."""

    name: str
    accepted: SpecifierSet
    found: Version | None
    wanted_by: tuple[str, ...]

    def __str__(self) -> str:
        has = "there is none" if self.found is None else f"there is {self.found}"
        return f"{self.name}{self.accepted} (for {', '.join(self.wanted_by)}): {has}"


def linux_environment(python: str) -> dict[str, str]:
    """The marker environment of CPython `python` (such as 3.12) on 64-bit Linux."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def read_wheel(path: Path) -> WheelFile:
    """Name, version and requirements of a wheel. Raises `ConfigError` for a broken file."""
    try:
        with zipfile.ZipFile(path) as archive:
            (metadata,) = (
                name
                for name in archive.namelist()
                if name.endswith(".dist-info/METADATA") and name.count("/") == 1
            )
            headers = HeaderParser().parsestr(archive.read(metadata).decode("utf-8"))
        return WheelFile(
            path,
            canonicalize_name(headers["Name"]),
            Version(headers["Version"]),
            tuple(Requirement(text) for text in headers.get_all("Requires-Dist") or ()),
        )
    except (
        *(OSError, zipfile.BadZipFile, ValueError, TypeError),
        *(InvalidRequirement, InvalidVersion),
    ) as error:
        raise ConfigError(f"{path} is not a whole wheel ({error}): download it again") from None


def unmet(
    root: Requirement, wheels: Iterable[WheelFile], environment: Mapping[str, str]
) -> list[Unmet]:
    """What is still needed to install `root` from `wheels` alone in `environment`, by name."""
    by_name = {wheel.name: wheel for wheel in wheels}
    accepted: dict[str, SpecifierSet] = {}
    wanted_by: dict[str, list[str]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(root, "you")]
    while waiting:
        requirement, parent = waiting.pop()
        name = canonicalize_name(requirement.name)
        accepted[name] = accepted.get(name, SpecifierSet()) & requirement.specifier
        if parent not in wanted_by.setdefault(name, []):
            wanted_by[name].append(parent)
        if name not in by_name:
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                for child in by_name[name].requires:
                    if _applies(child, extra, environment):
                        waiting.append((child, name))
    return [
        Unmet(name, accepted[name], found, tuple(sorted(wanted_by[name])))
        for name in sorted(accepted)
        if not _fits(found := _version(by_name.get(name)), accepted[name])
    ]


def _applies(requirement: Requirement, extra: str, environment: Mapping[str, str]) -> bool:
    marker = requirement.marker
    return not extra if marker is None else marker.evaluate({**environment, "extra": extra})


def _version(wheel: WheelFile | None) -> Version | None:
    return None if wheel is None else wheel.version


def _fits(version: Version | None, accepted: SpecifierSet) -> bool:
    return version is not None and accepted.contains(version, prereleases=True)
