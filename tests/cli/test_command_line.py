"""What the commands share: how each of them ends, and what it says then."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import typer

from solver.cli.app import quiet_libraries, run_app
from solver.errors import InputError, JournalError, ModelError
from solver.run import main


def app_of(command: Callable[[], object]) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command)
    return app


def raising(error: BaseException) -> typer.Typer:
    def command() -> None:
        raise error

    return app_of(command)


@pytest.mark.parametrize(
    ("app", "code", "says"),
    [
        (app_of(lambda: None), 0, ""),
        (app_of(lambda: 1), 1, ""),
        (raising(typer.Exit(3)), 3, ""),
        (raising(typer.BadParameter("no")), 2, "error: Invalid value: no\n"),
        (raising(InputError("no such file")), 2, "error: no such file\n"),
        (raising(JournalError("unreadable")), 1, "error: unreadable\n"),
        (raising(typer.Abort()), 130, "interrupted\n"),
        (raising(KeyboardInterrupt()), 130, "interrupted\n"),  # which typer would say nothing of
    ],
)
def test_how_a_command_ends(
    app: typer.Typer, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(app, [], interrupted="interrupted", failed=1) == code
    assert capsys.readouterr() == ("", says)


def test_whoever_speaks_is_told_everything() -> None:
    told: list[str] = []
    for error in (typer.BadParameter("no"), InputError("no such file"), typer.Abort()):
        run_app(raising(error), [], say=told.append, interrupted="interrupted")
    assert told == ["error: Invalid value: no", "error: no such file", "interrupted"]
    assert run_app(raising(JournalError("unreadable")), [], say=told.append) == 2
    assert run_app(raising(typer.Abort()), [], say=told.append) == 130
    assert told[3:] == ["error: unreadable"]


def test_a_terminal_that_knows_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding="ascii"))
    assert run_app(app_of(lambda: print("é\udcff", flush=True)), []) == 0
    assert screen.getvalue() == b"\\xe9\\udcff\n"


@pytest.mark.parametrize("asked_for", [[], ["default"]])
def test_warnings_are_for_those_who_ask(
    asked_for: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "warnoptions", asked_for)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with quiet_libraries():
            warnings.warn("for developers", stacklevel=1)
        warnings.warn("afterwards", stacklevel=1)
    assert [str(one.message) for one in shown] == ["for developers"] * bool(asked_for) + [
        "afterwards"
    ]


def fails_with(error: BaseException) -> Callable[..., object]:
    async def session(*arguments: Any, **options: Any) -> None:
        raise error

    return session


def test_the_end_of_a_servers_log_comes_before_the_error(
    problems: Any, stubs: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ModelError("the server ended; its log is vllm.log")
    error.add_note("one\x1b[2J\ntwo")
    monkeypatch.setattr("solver.runs.run._run", fails_with(error))
    assert main([str(problems)]) == 2
    assert (
        capsys.readouterr().err
        == "one\\x1b[2J\ntwo\nerror: the server ended; its log is vllm.log\n"
    )


def test_a_run_that_is_left_at_once_says_how_to_go_on(
    problems: Any, stubs: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("solver.runs.run._run", fails_with(asyncio.CancelledError()))
    assert main([str(problems)]) == 130
    told = capsys.readouterr().err
    assert told == "interrupted; a run that had begun goes on with --resume and its folder\n"


def test_what_the_commands_share_is_light(environment: dict[str, str]) -> None:
    """`--help` of every command waits for it."""
    heavy = {"asyncio", "numpy", "pydantic", "rich", "torch", "transformers"}
    code = f"import sys, solver.cli.app; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr
