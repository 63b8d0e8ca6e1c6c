"""Makes a wheelhouse: this project's wheel, and every wheel it needs on a machine without internet."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from solver.errors import ConfigError, InputError
from solver.wheels.closure import Unmet, WheelFile, linux_environment, read_wheel, unmet
from solver.wheels.manifest import (
    FILE_NAME,
    Manifest,
    faults,
    make_manifest,
    read_manifest,
    write_manifest,
)
from submissions.pip import Pip, platforms, run_pip, target_flags

ROOT = Path(__file__).resolve().parents[1]
NAME = "stop-solver"
ALWAYS = "kaggle"  # the extra that every submission needs
PACKAGES = ("solver", "sandbox", "prompts", "submissions")
_PROJECT_FILES = ("pyproject.toml", "README.md", "LICENSE")
_DATASET_FILE = "dataset-metadata.json"  # of `kaggle datasets init`; it stays
_ROUNDS = 8


def make_wheelhouse(
    out: Path,
    python: str,
    extras: Sequence[str],
    constraint: Path | None,
    say: Callable[[str], None],
    pip: Pip = run_pip,
) -> Manifest:
    """Fill `out` (empty, or a wheelhouse made before) for CPython `python` on 64-bit Linux.

    Raises `ConfigError` or `InputError`, naming the wheel that is not available.
    """
    if not (ROOT / "pyproject.toml").is_file():
        raise InputError(f"{ROOT} is no clone of the project: run this in one")
    _check_python(python)
    _check_extras(extras)
    if constraint is not None and not constraint.is_file():
        raise InputError(f"there is no constraints file {constraint}")
    _clear(out)
    say("building our wheel")
    ours = build_wheel(out, pip)
    wanted = f"{NAME}[{','.join(dict.fromkeys((ALWAYS, *extras)))}]=={ours.version}"
    target = target_flags(python)
    constraints = [] if constraint is None else ["--constraint", str(constraint.resolve())]
    say(f"downloading what {wanted} needs on Python {python}")
    first = [wanted.replace(f"=={ours.version}", f" @ {ours.path.resolve().as_uri()}")]
    _download(out, first, [*target, *constraints], pip)
    _complete(out, Requirement(wanted), python, [*target, *constraints], say, pip)
    command = ("pip", "download", *target, *(["--constraint", "FILE"] if constraint else ()))
    manifest = make_manifest(out, wanted, python, platforms(), (*command, wanted))
    write_manifest(out, manifest)
    return manifest


def check_wheelhouse(folder: Path) -> Manifest:
    """The manifest of a complete wheelhouse. Raises `ConfigError` with what is wrong."""
    manifest = read_manifest(folder)
    if found := faults(folder, manifest):
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise ConfigError(f"{folder}: {'; '.join(found[:3])}{more}: make the wheelhouse again")
    return manifest


def build_wheel(out: Path, pip: Pip = run_pip) -> WheelFile:
    """Build this clone's wheel into `out`, from a copy, because a build folder keeps deleted files."""
    with tempfile.TemporaryDirectory(prefix="stop-solver-wheel-") as folder:
        copy = Path(folder) / "project"
        copy.mkdir()
        for name in _PROJECT_FILES:
            shutil.copy(ROOT / name, copy / name)
        for name in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__", "*.work")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        pip(["wheel", str(copy), "--no-deps", "--wheel-dir", str(out.resolve())])
    (path,) = out.glob(f"{NAME.replace('-', '_')}-*.whl")
    return read_wheel(path)


def _download(out: Path, wanted: Sequence[str], options: Sequence[str], pip: Pip) -> None:
    pip(["download", "--dest", str(out.resolve()), *options, *wanted])


def _complete(
    out: Path,
    root: Requirement,
    python: str,
    options: list[str],
    say: Callable[[str], None],
    pip: Pip,
) -> None:
    """Download wheels that pip left out because it evaluates markers for its own Python, not the target."""
    for _ in range(_ROUNDS):
        wheels = [read_wheel(path) for path in sorted(out.glob("*.whl"))]
        needs = unmet(root, wheels, linux_environment(python))
        if not needs:
            return
        say("pip left out " + ", ".join(need.name for need in needs))
        with tempfile.TemporaryDirectory(prefix="stop-solver-pins-") as folder:
            pins = Path(folder) / "pins.txt"
            pins.write_text("".join(f"{line}\n" for line in _pins(wheels, needs)))
            for need in needs:
                for wheel in wheels:
                    if wheel.name == need.name:
                        wheel.path.unlink()
            wanted = [f"{need.name}{need.accepted}" for need in needs]
            here = ["--find-links", str(out.resolve()), "--constraint", str(pins)]
            _download(out, wanted, [*options, *here], pip)
    raise ConfigError(f"the wheels for {root} do not fit together: {'; '.join(map(str, needs))}")


def _pins(wheels: Sequence[WheelFile], needs: Sequence[Unmet]) -> list[str]:
    """Pins for the wheels that are there, except for those that must change."""
    changing = {need.name for need in needs}
    return [f"{wheel.name}=={wheel.version}" for wheel in wheels if wheel.name not in changing]


def _clear(out: Path) -> None:
    """Make `out` an empty folder; only the files of a wheelhouse are removed, anything else is refused."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: name a folder for the wheels")
    if out.is_dir():
        ours = [*out.glob("*.whl"), out / FILE_NAME]
        strange = [p for p in out.iterdir() if p not in ours and p.name != _DATASET_FILE]
        if strange:
            raise InputError(f"{out} holds {strange[0].name}: name an empty folder for the wheels")
        for path in ours:
            path.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def _check_python(python: str) -> None:
    try:
        release = Version(python).release
    except InvalidVersion:
        release = ()
    if len(release) != 2 or release < (3, 11):
        raise ConfigError(f"--python {python}: write a version such as 3.12; 3.11 is the oldest")


def _check_extras(extras: Sequence[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    for extra in extras:
        if extra not in known:
            raise ConfigError(f"unknown extra {extra!r}; there are {', '.join(known)}")
    if {"vllm", "harmony"} <= {*extras}:
        raise ConfigError("vLLM brings harmony itself: leave out --extra harmony")
