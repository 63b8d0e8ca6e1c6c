"""Names and declarations: ours, those of installed packages, and packages that are broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from solver.errors import ConfigError
from solver.runs.settings import load_config
from solver.scorers import find_scorer, gives_chances, registry, scorer_names

GOOD = """
from solver.scorers import ScorerDeclaration
ONE = ScorerDeclaration("one", compute=lambda prefixes, mark: [1.0] * len(prefixes), gives_chances=True)
"""

Install = Callable[[str, dict[str, str], str], None]


@pytest.fixture
def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Install]:
    """Puts a distribution of one module, with these scorers, on the path as an installer leaves it."""

    def forget() -> None:
        registry._installed.cache_clear()
        registry.find_scorer.cache_clear()

    def put(name: str, scorers: dict[str, str], code: str = "") -> None:
        folder = tmp_path / name
        metadata = folder / f"{name}-1.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        lines = [f"[{registry.GROUP}]", *(f"{key} = {value}" for key, value in scorers.items())]
        (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
        (folder / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(folder)
        forget()

    forget()
    yield put
    monkeypatch.undo()
    forget()


def test_every_name_of_ours_is_that_of_its_declaration() -> None:
    assert [declaration.name for declaration in registry.built_in()] == list(registry.BUILT_IN)
    assert registry.names_with_chances() == ["probe", "reward", "stop", "stop+confidence"]


def test_a_package(install: Install) -> None:
    install("a_package", {"one": "a_package:ONE"}, GOOD)
    assert scorer_names() == (*registry.BUILT_IN, "one")
    assert "a_package" not in sys.modules, "a name is known without an import"
    assert find_scorer("one").compute is not None and gives_chances("one")
    config = load_config(sets=["prune.scorer=one", "vote.rule=weighted"])
    assert config.prune.scorer == "one"


def test_a_name_that_is_offered_twice(install: Install) -> None:
    install("b_package", {"one": "b_package:ONE"}, GOOD)
    install("c_package", {"one": "c_package:ONE"}, GOOD)
    assert scorer_names().count("one") == 1
    with pytest.raises(ConfigError) as refused:
        load_config(sets=["prune.scorer=one"])
    assert str(refused.value) == (
        "the scorer 'one' is offered by b_package and c_package: uninstall all but one"
    )
    assert load_config(sets=["prune.scorer=none"]).prune.scorer == "none", "others are not affected"


def test_a_name_of_ours(install: Install) -> None:
    install("d_package", {"confidence": "d_package:ONE"}, GOOD)
    assert scorer_names() == tuple(registry.BUILT_IN)
    with pytest.raises(ConfigError, match="'confidence' is built in, and d_package offers one"):
        find_scorer("confidence")


@pytest.mark.parametrize(
    ("value", "code", "why"),
    [
        (
            "e_package:ONE",
            "import no_such_module",
            "cannot be imported: ModuleNotFoundError: No mo",
        ),
        (
            "e_package:ONE",
            "raise SystemError('two\\nlines')",
            "SystemError: two lines; mend or unin",
        ),
        ("e_package:TWO", GOOD, "cannot be imported: AttributeError: "),
        ("e_package:ONE", "ONE = 1", "is not a ScorerDeclaration: e_package:ONE is a int"),
        ("e_package:ONE", GOOD.replace('"one"', '"two"'), "calls itself 'two': both names must be"),
    ],
)
def test_a_package_that_is_broken(install: Install, value: str, code: str, why: str) -> None:
    sys.modules.pop("e_package", None)
    install("e_package", {"one": value}, code)
    with pytest.raises(ConfigError) as refused:
        load_config(sets=["prune.scorer=one"])
    said = str(refused.value)
    assert said.startswith("the scorer 'one' of e_package ") and why in said
    assert "\n" not in said
    assert registry.names_with_chances() == ["probe", "reward", "stop", "stop+confidence"]
    assert not gives_chances("one"), "a report goes without"


def test_a_name_that_means_nothing() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown scorer 'confidance'; did you mean confidence\?"
    ):
        find_scorer("confidance")
    with pytest.raises(
        ConfigError, match="unknown scorer 'x'; there are similarity, failed-tool-calls, "
    ):
        find_scorer("x")
    assert not gives_chances("x")


def test_declarations_import_no_torch() -> None:
    code = (
        "import sys; from solver.scorers import registry; all_of_them = list(registry.built_in());"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
