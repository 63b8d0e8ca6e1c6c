"""What the commands have in common: a mistake of the user is one line on stderr and exit code 2."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

import typer

from solver.errors import SolverError, UserError

EXIT_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 1, 2, 130


def complain(message: str) -> None:
    """Say on stderr what is wrong."""
    print(message, file=sys.stderr)


def run_app(
    app: typer.Typer,
    argv: Sequence[str] | None,
    *,
    prog: str | None = None,
    obj: object = None,
    say: Callable[[str], None] = complain,
    interrupted: str | None = None,
    failed: int = EXIT_USER_ERROR,
) -> int:
    """Run a command on `argv` (the process's own if None) and return its exit code.

    `prog` is the command's name in its help (default: as the process was called). `say` is told the error
    that ended it, or `interrupted` if it was called off. `failed` is the exit code after an error that is
    not the user's; `obj` is what the command finds in its context.
    """
    tame_output()
    try:
        code = int(app(args=argv, prog_name=prog, standalone_mode=False, obj=obj) or 0)
        if code != EXIT_INTERRUPTED:
            return code
    except typer.TyperException as error:
        say(f"error: {error.format_message()}")
        return EXIT_USER_ERROR
    except SolverError as error:
        say(f"error: {error}")
        return EXIT_USER_ERROR if isinstance(error, UserError) else failed
    except (KeyboardInterrupt, typer.Abort):
        pass
    if interrupted is not None:  # typer makes an exit code of a Ctrl-C, and says nothing
        say(interrupted)
    return EXIT_INTERRUPTED


def tame_output() -> None:
    """Let a terminal that knows ASCII only show any id or path."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep what model libraries say to their developers from the user, unless Python was given -W."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield
