"""`python -m submissions.headless NOTEBOOK`: execute a notebook here, as Kaggle does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from solver.cli.app import EXIT_USER_ERROR, print_error
from solver.cli.extras import require
from solver.cli.python import python
from solver.errors import InputError, UserError, first_line


def main(arguments: Sequence[str]) -> int:
    """Execute the notebook that `arguments` name; mistakes of the user are one line and exit code 2."""
    try:
        execute(arguments)
    except UserError as error:
        print_error(f"error: {error}")
        return EXIT_USER_ERROR
    return 0


def execute(arguments: Sequence[str]) -> None:
    """Execute the cells in order, without a time limit; their output is printed at the end."""
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        raise InputError(
            f"give the file of one notebook: {python()} -m submissions.headless NOTEBOOK"
        )
    require("executing a notebook", "nbformat", "nbclient")
    nbformat: Any = import_module("nbformat")  # of the extra dev, and without types
    nbclient: Any = import_module("nbclient")
    try:
        notebook = nbformat.read(arguments[0], as_version=4)
    except Exception as error:  # of its parser, which raises whatever comes
        raise InputError(f"{arguments[0]} is no notebook: {first_line(error)}") from None
    resources = {"metadata": {"path": str(Path.cwd())}}
    nbclient.NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources=resources
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            print(output.get("text", ""), end="")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
