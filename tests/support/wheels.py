"""Wheels made up for tests, and a pip that hands them out."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from solver.errors import ConfigError


def make_wheel(folder: Path, name: str, version: str, requires: Iterable[str] = ()) -> Path:
    """A wheel of nothing but metadata, which pip installs."""
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return path


class FakePip:
    """Knows an index, and like pip judges markers by nobody's Python but `python`."""

    def __init__(self, python: str, index: dict[str, dict[str, Sequence[str]]]) -> None:
        self.python, self.index = python, index
        self.downloads: list[list[str]] = []

    def __call__(self, arguments: Sequence[str]) -> None:
        words = list(arguments)
        if words[0] == "wheel":
            folder = Path(words[words.index("--wheel-dir") + 1])
            make_wheel(folder, "stop-solver", "0.1.0", self.index["stop-solver"]["0.1.0"])
            return
        folder = Path(words[words.index("--dest") + 1])
        wanted = [word for word in words if word[0].isalpha() and word not in ("download", "cp")]
        wanted = [word for word in wanted if "manylinux" not in word]
        self.downloads.append(wanted)
        for word in wanted:
            if "@" not in word:
                self._fetch(folder, Requirement(word))
                continue
            for text in self.index["stop-solver"]["0.1.0"]:
                self._fetch(folder, Requirement(text))

    def _fetch(self, folder: Path, requirement: Requirement) -> None:
        if requirement.marker is not None and not requirement.marker.evaluate(
            {"python_version": self.python, "extra": "kaggle"}
        ):
            return
        versions = self.index.get(requirement.name, {})
        fitting = [v for v in versions if requirement.specifier.contains(v)]
        if not fitting:
            raise ConfigError(f"pip download failed: no {requirement}")
        best = max(fitting, key=Version)
        if not list(folder.glob(f"{requirement.name}-*.whl")):
            make_wheel(folder, requirement.name, best, versions[best])
        for text in versions[best]:
            self._fetch(folder, Requirement(text))
