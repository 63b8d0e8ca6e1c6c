"""`python -m submissions.headless NOTEBOOK`: execute a notebook here, as Kaggle does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str]) -> None:
    """Execute the cells in order, without a time limit; their output is printed at the end."""
    nbformat: Any = import_module("nbformat")  # of the extra dev, and without types
    nbclient: Any = import_module("nbclient")
    notebook = nbformat.read(arguments[0], as_version=4)
    resources = {"metadata": {"path": str(Path.cwd())}}
    nbclient.NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources=resources
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            print(output.get("text", ""), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
