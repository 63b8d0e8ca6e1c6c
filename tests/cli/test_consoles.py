"""Tables have the width of where they are shown."""

from __future__ import annotations

import pytest

from solver.cli.consoles import wide_console


def test_a_file_takes_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    console = wide_console()
    assert (console.width, console.color_system) == (160, None)


def test_a_terminal_and_a_notebook_say_how_wide_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert wide_console().width == 90
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setenv("JUPYTER_COLUMNS", "101")
    console = wide_console(markup=False)
    assert (console.width, console.is_jupyter) == (101, True)
    assert console.color_system == "truecolor"
