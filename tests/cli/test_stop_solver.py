"""`stop-solver`: every command by one name, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

from solver.__main__ import COMMANDS


def stop_solver(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "solver", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_without_arguments_it_lists_its_commands() -> None:
    done = stop_solver()
    assert done.returncode == 0 and done.stdout.startswith("Usage: stop-solver ")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_the_module_that_python_runs(name: str) -> None:
    module = import_module(COMMANDS[name].module)
    assert callable(module.main) and module.app.info is not None


@pytest.mark.parametrize("name", ["stop", "embedded", "sandbox", "notebook"])
def test_a_group_without_a_command_lists_its_commands(name: str) -> None:
    done = stop_solver(name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Usage: stop-solver {name} ") and "\nCommands:\n" in done.stderr
    mistaken = stop_solver(name, "nothing")
    assert (mistaken.returncode, mistaken.stdout) == (2, "")
    assert mistaken.stderr == "error: No such command 'nothing'.\n"


@pytest.mark.parametrize("command", ["run", "stop evaluate", "sandbox run", "notebook build"])
def test_help_names_the_command_as_it_was_called(command: str) -> None:
    done = stop_solver(*command.split(), "--help")
    assert done.returncode == 0 and f"Usage: stop-solver {command} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replya", "runs/1"], "there is no command 'replya'; did you mean replay?"),
        (["missing.csv"], "missing.csv: no such file"),
        (["run"], "give a file of problems"),
        (["doctor", "--preset", "qwen33"], "unknown preset 'qwen33'"),
        (["embedded", "problems", "--num", "many"], "Invalid value for '--num'"),
        (["sandbox", "run", "missing.py"], "does not exist"),
    ],
)
def test_a_mistake_is_said_and_exits_with_2(arguments: list[str], words: str) -> None:
    done = stop_solver(*arguments)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_completion_knows_the_commands_of_a_command() -> None:
    words = {"COMP_WORDS": "stop-solver stop co", "COMP_CWORD": "2"}
    done = stop_solver(_STOP_SOLVER_COMPLETE="complete_bash", **words)
    assert done.stdout.split() == ["collect", "convert"]
