"""The consoles that tables and progress are printed on."""

from __future__ import annotations

import os

from rich.console import Console

_FILE_WIDTH = 160  # columns of what is no screen


class LastingConsole(Console):
    """Goes silent when its reader ends (`| head`), so that the work goes on."""

    def on_broken_pipe(self) -> None:
        """Print nothing more."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def wide_console(*, markup: bool = True, soft_wrap: bool = False) -> Console:
    """As wide and as coloured as the terminal or the notebook is; in a file wide enough for whole rows."""
    console = Console(emoji=False, highlight=False, markup=markup, soft_wrap=soft_wrap)
    if not (console.is_terminal or console.is_jupyter):
        console.width = _FILE_WIDTH
    return console
