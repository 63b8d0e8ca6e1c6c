"""What the commands have in common: a mistake of the user is one line on stderr and exit code 2."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

import typer

from solver.cli.leftovers import hide_leftovers
from solver.errors import SolverError, UserError

EXIT_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 1, 2, 130


def print_error(message: str) -> None:
    """Print a message on stderr."""
    print(message, file=sys.stderr)


def run_app(
    app: typer.Typer,
    argv: Sequence[str] | None,
    *,
    prog: str | None = None,
    obj: object = None,
    say: Callable[[str], None] = print_error,
    interrupted: str | None = None,
    failed: int = EXIT_USER_ERROR,
) -> int:
    """Run a command on `argv` (the process's own if None) and return its exit code.

    `prog` is the command's name in its help (default: as the process was called). `say` is told the error
    that ended it, or `interrupted` if it was interrupted. `failed` is the exit code after an error that is
    not the user's; `obj` is what the command finds in its context.
    """
    escape_unencodable()
    try:
        code = int(app(args=argv, prog_name=prog, standalone_mode=False, obj=obj) or 0)
        if code != EXIT_INTERRUPTED:
            return code
    except typer.TyperException as error:
        told = error.format_message()
        is_help = told.startswith("Usage: ")  # where no command was given
        say(told if is_help else f"error: {told}")
        return EXIT_USER_ERROR
    except SolverError as error:
        say(f"error: {error}")
        return EXIT_USER_ERROR if isinstance(error, UserError) else failed
    except OSError as error:
        if error.filename is None:  # nothing of the user's
            raise
        say(f"error: cannot use {error.filename}: {error.strerror}")
        return EXIT_USER_ERROR
    except (KeyboardInterrupt, typer.Abort):
        pass
    if interrupted is not None:  # typer makes an exit code of a Ctrl-C, and says nothing
        say(interrupted)
    return EXIT_INTERRUPTED


def escape_unencodable() -> None:
    """Print characters that the terminal cannot encode as backslash escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide warnings that model libraries mean for their developers, unless Python was given -W.

    Packages that only break them are hidden as well.
    """
    hide_leftovers()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield
