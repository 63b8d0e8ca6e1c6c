"""`python -m sandbox`: the self-check and trying things."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sandbox.__main__ as commands
from sandbox.check import Finding

RUNNER = CliRunner()
ROOT = Path(__file__).parents[2]


def test_every_claim_holds_here() -> None:
    said = RUNNER.invoke(commands.app, ["check"])
    assert said.exit_code == 0, said.output
    assert said.output.startswith("isolation: ")
    assert "G1 an answer in time" in said.output
    assert " NO" not in said.output


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (None, 0), (False, 1)])
def test_a_claim_that_does_not_hold_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, holds: bool | None, code: int
) -> None:
    async def tried() -> list[Finding]:
        return [Finding("G1", "luck", True), Finding("G2", "luck", holds, "because")]

    monkeypatch.setattr(commands, "try_claims", tried)
    said = RUNNER.invoke(commands.app, ["check"])
    assert said.exit_code == code
    assert commands.HOLDS[holds] in said.output
    assert "because" in said.output


def test_a_file_is_run_cell_by_cell(tmp_path: Path) -> None:
    file = tmp_path / "cells.py"
    file.write_text("x = 5\nprint('a')\n# %% the second\nx + 1\n#%%\n1/0\n# %%\nprint('never')\n")
    said = RUNNER.invoke(commands.app, ["run", str(file)])
    assert said.exit_code == 1
    assert said.stdout == "a\n6\nline 1: 1/0\nZeroDivisionError: division by zero\n"
    assert "isolation: " in said.stderr


def test_files_share_one_interpreter(tmp_path: Path) -> None:
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text("x = 5")
    second.write_text("x + 1")
    said = RUNNER.invoke(commands.app, ["run", str(first), str(second), "-"], input="x + 2")
    assert (said.exit_code, said.stdout) == (0, "[no output]\n6\n7\n")


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for file, words in (
        (tmp_path / "none.py", "does not exist"),
        (binary, f"{binary} cannot be read"),
    ):
        said = RUNNER.invoke(commands.app, ["run", str(file)])
        assert said.exit_code == 2
        assert words in said.stderr
        assert len(said.stderr.splitlines()) == 1


def test_the_tool_server_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.delitem(sys.modules, "sandbox.tool_server", raising=False)
    said = RUNNER.invoke(commands.app, ["mcp"])
    assert said.exit_code == 2
    assert "-m pip install mcp" in said.stderr


def test_what_the_package_names_is_there_and_nothing_is_loaded_for_it() -> None:
    code = """
import sys, sandbox
assert not [name for name in sys.modules if name.startswith("sandbox.")]
for name in sandbox.__all__:
    assert getattr(sandbox, name).__name__ == name
try: sandbox.nothing
except AttributeError: print("ok")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "ok\n", done.stderr
