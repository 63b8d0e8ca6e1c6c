from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

STUBS = Path(__file__).with_name("stubs.py")
ROOT = STUBS.parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def problems(folder: Path) -> Path:
    """Three problems, the last of which the stub gets wrong."""
    path = folder / "problems.csv"
    path.write_text("id,problem,answer\na,say 1,1\nb,say 2,2\nc,say 3,4\n")
    return path


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`solver.build` and `solver.solving.session` without a model, in this process."""
    spec = importlib.util.spec_from_file_location("cli_stubs", STUBS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cli_stubs", module)
    spec.loader.exec_module(module)
    installed = module.Stubs()
    installed.install(monkeypatch.setitem)
    return installed


@pytest.fixture
def stub_command() -> list[str]:
    """The command with the stubs, for a process of its own."""
    return [sys.executable, str(STUBS)]


@pytest.fixture
def environment() -> dict[str, str]:
    """For processes that import the project from its checkout."""
    return os.environ | {"PYTHONPATH": str(ROOT)}
