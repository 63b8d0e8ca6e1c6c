"""`stop-solver COMMAND ...`: every command of the project by one name, with shared help and completion.

    stop-solver run problems.csv          the same as  python -m solver.run problems.csv

A command's module is imported when the command is called. What is not the name of a command is taken
as the arguments of `run`, so `stop-solver problems.csv` solves a file.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from solver.cli.app import EXIT_USER_ERROR, print_error, run_app

PROGRAM = "stop-solver"
_COMPLETION = "_STOP_SOLVER_COMPLETE"  # set by the shell that asks for completions
_OWN_OPTIONS = ("--help", "--install-completion", "--show-completion")


@dataclass(frozen=True, slots=True)
class Command:
    """A command by the module that holds its `app` and `main(argv, prog=...)`, and what it is for."""

    module: str
    purpose: str

    def load(self) -> Any:
        """The module, imported now."""
        return import_module(self.module)


COMMANDS = {
    "run": Command("solver.run", "Solve a file of problems."),
    "merge": Command("solver.merge", "Put the finished shards of a run together."),
    "replay": Command("solver.replay.__main__", "Try other policies on recorded runs."),
    "report": Command("solver.report.__main__", "Write or serve a run as one HTML page."),
    "doctor": Command("solver.doctor.__main__", "Check whether this machine is fit for a run."),
    "sandbox": Command("sandbox.__main__", "Check the sandbox, or run a file of cells in it."),
    "stop": Command("solver.stop.__main__", "Collect, train, evaluate and convert STOP adapters."),
    "embedded": Command(
        "solver.embedded.cli", "Problems, corpus and training of the shipped model."
    ),
    "dryrun": Command("submissions.dryrun", "Rehearse a Kaggle submission under its time limit."),
    "notebook": Command("submissions.notebook", "Build the Kaggle notebook and its wheels."),
}


class _Commands(TyperGroup):
    """The commands as typer sees them; each is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = COMMANDS.get(cmd_name)
        return command and typer.main.get_command(command.load().app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.purpose) for name, command in COMMANDS.items()])


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="stop-solver COMMAND --help says more. FILE instead of a command means run FILE.",
)


@app.callback()
def solver() -> None:
    """A solver for maths competitions: launch many trajectories, keep the promising ones, vote."""


def main() -> int:
    """Run the command that the process's arguments name, and return its exit code."""
    arguments = sys.argv[1:] or ["--help"]
    first = arguments[0]
    if first in _OWN_OPTIONS or _COMPLETION in os.environ:
        return run_app(app, arguments, prog=PROGRAM)
    if first in COMMANDS:
        return _run(first, arguments[1:])
    if meant := _misspelt(first):
        print_error(f"error: there is no command {first!r}; did you mean {meant}?")
        return EXIT_USER_ERROR
    return _run("run", arguments)


def _run(name: str, arguments: Sequence[str]) -> int:
    code: int = COMMANDS[name].load().main(arguments, prog=f"{PROGRAM} {name}")
    return code


def _misspelt(word: str) -> str | None:
    """The command that was meant by a word that names neither a command nor a file."""
    if Path(word).exists():
        return None
    return next(iter(difflib.get_close_matches(word, COMMANDS, n=1)), None)


if __name__ == "__main__":
    sys.exit(main())
