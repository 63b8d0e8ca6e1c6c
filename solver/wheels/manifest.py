"""MANIFEST.json of a wheelhouse: its files with their hashes, and what it was made for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict, ValidationError

from solver.cli.python import python
from solver.errors import ConfigError, first_fault
from solver.wheels.closure import linux_environment, read_wheel, unmet

FILE_NAME = "MANIFEST.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wheel(_Frozen):
    """One file; `size` is in bytes."""

    name: str
    version: str
    file: str
    sha256: str
    size: int


class Manifest(_Frozen):
    """The whole file. `requirement` is what is installed, `command` how the wheels were got."""

    format_version: Literal[1] = 1
    requirement: str
    python: str
    platforms: tuple[str, ...]
    command: tuple[str, ...]
    wheels: tuple[Wheel, ...]


def make_manifest(
    folder: Path,
    requirement: str,
    python: str,
    platforms: tuple[str, ...],
    command: tuple[str, ...],
) -> Manifest:
    """Describe the wheels in `folder`; hashes them all. Raises `ConfigError` for a broken one."""
    wheels = [read_wheel(path) for path in sorted(folder.glob("*.whl"))]
    return Manifest(
        requirement=requirement,
        python=python,
        platforms=platforms,
        command=command,
        wheels=tuple(
            Wheel(
                name=wheel.name,
                version=str(wheel.version),
                file=wheel.path.name,
                sha256=sha256_of(wheel.path),
                size=wheel.path.stat().st_size,
            )
            for wheel in wheels
        ),
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into the wheelhouse."""
    (folder / FILE_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a wheelhouse. Raises `ConfigError`."""
    path = folder / FILE_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} is not a wheelhouse: it has no {FILE_NAME};"
            f" make one with {python()} -m submissions.notebook wheelhouse"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ConfigError(f"{path} is not valid: {first_fault(error)}") from None


def faults(folder: Path, manifest: Manifest) -> list[str]:
    """The faults of a wheelhouse, one line each: files with wrong hashes, then missing wheels."""
    found = list(_damaged(folder, manifest))
    if found:
        return found
    wheels = [read_wheel(folder / wheel.file) for wheel in manifest.wheels]
    lacking = unmet(Requirement(manifest.requirement), wheels, linux_environment(manifest.python))
    return [f"it lacks {need}" for need in lacking]


def sha256_of(path: Path) -> str:
    """The sha256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damaged(folder: Path, manifest: Manifest) -> Iterator[str]:
    listed = {wheel.file for wheel in manifest.wheels}
    for wheel in manifest.wheels:
        path = folder / wheel.file
        if not path.is_file():
            yield f"{wheel.file} is missing"
        elif path.stat().st_size != wheel.size:
            yield f"{wheel.file} has {path.stat().st_size:,} bytes, not {wheel.size:,}"
        elif sha256_of(path) != wheel.sha256:
            yield f"{wheel.file} has another sha256 than was written down"
    for path in sorted(folder.glob("*.whl")):
        if path.name not in listed:
            yield f"{path.name} is not in {FILE_NAME}"
