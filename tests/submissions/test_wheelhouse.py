"""Wheelhouses: what the target needs, what a damaged folder is told, and a real offline install."""

from __future__ import annotations

import json
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from solver.errors import ConfigError, InputError
from solver.wheels.closure import linux_environment, read_wheel, unmet
from solver.wheels.manifest import FILE_NAME, faults, make_manifest, read_manifest, write_manifest
from submissions import notebook
from submissions.pip import platforms, run_pip
from submissions.wheelhouse import build_wheel, make_wheelhouse
from tests.support.wheels import FakePip, make_wheel

ROOT = Path(__file__).parents[2]
PY312 = linux_environment("3.12")


def lacking(folder: Path, root: str) -> list[str]:
    wheels = [read_wheel(path) for path in folder.glob("*.whl")]
    return [str(need) for need in unmet(Requirement(root), wheels, PY312)]


def test_needs_are_those_of_the_target_and_of_the_chosen_extras(tmp_path: Path) -> None:
    requires = [
        "Both_names",
        "backport; python_version < '3.12'",
        "newcomer>=2; python_version >= '3.12'",
        "windows; sys_platform == 'win32'",
        "polars; extra == 'kaggle'",
        "vllm; extra == 'vllm'",
    ]
    make_wheel(tmp_path, "stop-solver", "0.1.0", requires)
    make_wheel(tmp_path, "both-names", "1.0")
    make_wheel(tmp_path, "polars", "2.1.0", ["deep; python_version == '3.12'"])
    told = lacking(tmp_path, "stop-solver[kaggle]==0.1.0")
    assert told == [
        "deep (for polars): there is none",
        "newcomer>=2 (for stop-solver): there is none",
    ]


def test_everyone_has_a_say_in_a_version(tmp_path: Path) -> None:
    make_wheel(tmp_path, "app", "1", ["torch", "vllm"])
    make_wheel(tmp_path, "torch", "2", ["setuptools>=77"])
    make_wheel(tmp_path, "vllm", "3", ["setuptools<81; python_version > '3.11'", "torch==2"])
    make_wheel(tmp_path, "setuptools", "84.2")
    assert lacking(tmp_path, "app") == ["setuptools<81,>=77 (for torch, vllm): there is 84.2"]


def test_circles_and_pre_releases_are_fine(tmp_path: Path) -> None:
    make_wheel(tmp_path, "a", "1.0rc1", ["b[x]==2.0"])
    make_wheel(tmp_path, "b", "2.0+cpu", ["a>=1.0rc1; extra == 'x'"])
    assert lacking(tmp_path, "a") == []


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_broken_wheel_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    if content is None:
        zipfile.ZipFile(path, "w").close()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"x-1-py3-none-any\.whl is not a whole wheel"):
        read_wheel(path)


def wheelhouse(folder: Path) -> Path:
    make_wheel(folder, "stop-solver", "0.1.0", ["six"])
    make_wheel(folder, "six", "1.17.0")
    manifest = make_manifest(folder, "stop-solver[kaggle]==0.1.0", "3.12", platforms(), ("pip",))
    write_manifest(folder, manifest)
    return folder


def told_of(folder: Path) -> list[str]:
    return faults(folder, read_manifest(folder))


def test_a_whole_wheelhouse_has_no_faults(tmp_path: Path) -> None:
    assert told_of(wheelhouse(tmp_path)) == []
    entry = json.loads((tmp_path / FILE_NAME).read_text())["wheels"][0]
    assert set(entry) == {"name", "version", "file", "sha256", "size"}
    assert entry["version"] == "1.17.0"


def test_every_damage_is_told(tmp_path: Path) -> None:
    wheelhouse(tmp_path)
    six = tmp_path / "six-1.17.0-py3-none-any.whl"
    whole = six.read_bytes()
    six.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert told_of(tmp_path) == [f"{six.name} has another sha256 than was written down"]
    six.write_bytes(whole[:-5])
    assert told_of(tmp_path) == [f"{six.name} has {len(whole) - 5} bytes, not {len(whole)}"]
    six.unlink()
    assert told_of(tmp_path) == [f"{six.name} is missing"]
    six.write_bytes(whole)
    make_wheel(tmp_path, "stowaway", "1")
    assert told_of(tmp_path) == ["stowaway-1-py3-none-any.whl is not in MANIFEST.json"]


def test_a_manifest_without_what_is_needed(tmp_path: Path) -> None:
    make_wheel(tmp_path, "stop-solver", "0.1.0", ["six>=1"])
    write_manifest(tmp_path, make_manifest(tmp_path, "stop-solver", "3.12", (), ()))
    assert told_of(tmp_path) == ["it lacks six>=1 (for stop-solver): there is none"]


@pytest.mark.parametrize("content", ["", "{}", '{"format_version": 2}', "[]"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(ConfigError, match=r"MANIFEST\.json is not valid"):
        read_manifest(tmp_path)


INDEX: dict[str, dict[str, list[str]]] = {
    "stop-solver": {"0.1.0": ["torch", "vllm", "polars; extra == 'kaggle'"]},
    "torch": {"2": ["setuptools>=77"]},
    "vllm": {"1": ["setuptools<81; python_version > '3.11'", "six; python_version > '3.11'"]},
    "polars": {"2": []},
    "setuptools": {"80": ["late; python_version > '3.11'"], "84": []},
    "six": {"1": []},
    "late": {"1": []},
}


def test_what_pip_leaves_out_for_another_python_is_got(tmp_path: Path) -> None:
    pip, said = FakePip("3.11", INDEX), []
    manifest = make_wheelhouse(tmp_path / "w", "3.12", ["vllm"], None, said.append, pip)
    assert {f"{wheel.name} {wheel.version}" for wheel in manifest.wheels} == {
        *("stop-solver 0.1.0", "torch 2", "vllm 1", "polars 2", "setuptools 80", "six 1", "late 1"),
    }
    assert manifest.requirement == "stop-solver[kaggle,vllm]==0.1.0"
    assert said[-2:] == ["pip left out setuptools, six", "pip left out late"]
    assert told_of(tmp_path / "w") == []


def test_the_same_python_needs_one_download(tmp_path: Path) -> None:
    index = {**INDEX, "setuptools": {"80": []}}
    pip = FakePip("3.12", index)
    make_wheelhouse(tmp_path / "w", "3.12", [], None, lambda _: None, pip)
    assert len(pip.downloads) == 1


@pytest.mark.parametrize(("extra", "file"), [([], ""), (["--extra", "vllm"], "-vllm")])
def test_versions_are_those_that_the_tests_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: list[str], file: str
) -> None:
    given: list[Path | None] = []

    def make(out: Path, python: str, extras: list[str], constraint: Path | None, say: object):  # type: ignore[no-untyped-def]
        given.append(constraint)
        raise ConfigError("enough")

    monkeypatch.setattr(notebook, "make_wheelhouse", make)
    assert notebook.main(["wheelhouse", "--out", str(tmp_path), *extra]) == 2
    assert given == [ROOT / f"constraints{file}.txt"]
    pins = dict(
        line.split("==")
        for line in (ROOT / f"constraints{file}.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    declared = [Requirement(text) for text in project()["dependencies"]]
    declared += [Requirement(text) for text in project()["optional-dependencies"]["vllm"]]
    for requirement in declared:
        if requirement.name in pins:
            assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert {"torch", "transformers"} <= pins.keys()
    assert ("vllm" in pins) is bool(extra)


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def test_a_wheel_that_nobody_has_ends_it(tmp_path: Path) -> None:
    pip = FakePip("3.11", {**INDEX, "six": {}})
    with pytest.raises(ConfigError, match="no six"):
        make_wheelhouse(tmp_path / "w", "3.12", [], None, lambda _: None, pip)
    assert not (tmp_path / "w" / FILE_NAME).exists()


def test_only_a_wheelhouse_is_overwritten(tmp_path: Path) -> None:
    def make() -> None:
        pip = FakePip("3.11", INDEX)
        make_wheelhouse(tmp_path / "w", "3.12", [], None, lambda _: None, pip)

    make()
    (tmp_path / "w" / "dataset-metadata.json").write_text("{}")
    make_wheel(tmp_path / "w", "old", "1")
    make()
    assert (tmp_path / "w" / "dataset-metadata.json").exists()
    assert told_of(tmp_path / "w") == []
    (tmp_path / "w" / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"holds thesis\.txt"):
        make()
    assert (tmp_path / "w" / FILE_NAME).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["wheelhouse", "--out", "w", "--python", "3"], "write a version such as 3.12"),
        (["wheelhouse", "--out", "w", "--python", "3.10"], "3.11 is the oldest"),
        (["wheelhouse", "--out", "w", "--python", "three"], "write a version such as 3.12"),
        (["wheelhouse", "--out", "w", "--extra", "vlm"], "unknown extra 'vlm'; there are vllm"),
        (["wheelhouse", "--out", "w", "--constraint", "none.txt"], "no constraints file none.txt"),
        (["wheelhouse", "--out", "w", "--extra", "vllm", "--extra", "harmony"], "vLLM brings"),
        (["wheelhouse", "--out", "file"], "file is a file"),
        (["wheelhouse"], "Missing option '--out'"),
        (["verify", "nowhere"], "nowhere is not a wheelhouse"),
        (["verify", "damaged"], "six-1.17.0-py3-none-any.whl is missing"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "damaged").mkdir()
    wheelhouse(tmp_path / "damaged")
    (tmp_path / "damaged" / "six-1.17.0-py3-none-any.whl").unlink()
    assert notebook.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err
    assert told.err.count("\n") == 1


def test_pips_complaint_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run_pip(["download", "--no-index", "--dest", str(tmp_path), "no-such-package-of-ours"])
    assert "No matching distribution found for no-such-package-of-ours" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_wheel_carries_everything_that_is_read_at_run_time(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    names = set(zipfile.ZipFile(wheel.path).namelist())
    files = {
        str(path.relative_to(ROOT))
        for package in ("solver", "sandbox", "prompts", "submissions")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".work" not in str(path)
    }
    assert files - names == set()
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "notebook"))]
    assert not [name for name in names if "__pycache__" in name]
