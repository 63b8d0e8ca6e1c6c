"""The one error tree.

    SolverError
    ├── UserError            bad input or configuration: one line, exit code 2
    │   ├── ConfigError      a flag, preset, key or value
    │   │   └── PartMissing  an adapter or a reward model that a scorer needs
    │   ├── InputError       the problems file or the output path
    │   └── ModelError       the model folder
    └── RunError             something failed while solving: becomes data in a result
        ├── EngineError      the engine could not go on with a request
        ├── ScorerError      the check could not score (a named fallback follows)
        └── JournalError     the run folder cannot be read or written

A `UserError`'s message says what is wrong and what to do about it. A bad trajectory is data, not a
crash: `RunError`s are caught where they happen and recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class SolverError(Exception):
    """Base of every error this package raises on purpose."""


class UserError(SolverError):
    """Bad input or configuration; the message is one line that says what to do."""


class ConfigError(UserError):
    """A flag, preset, key or value that cannot be used."""


class PartMissing(ConfigError):
    """A scorer needs an adapter, its combiner or a reward model, and there is none."""


class InputError(UserError):
    """A problems file or an output path that cannot be used."""


class ModelError(UserError):
    """A model folder that cannot be loaded or served."""


class RunError(SolverError):
    """A failure while solving; recorded in the result, never a traceback for the user."""


class EngineError(RunError):
    """The engine could not go on with a request."""


class ScorerError(RunError):
    """The check could not score the prefixes."""


class JournalError(RunError):
    """The run folder cannot be read or written."""


def named(error: BaseException) -> str:
    """`KeyError: 'x'`: an error in one piece, for messages and records."""
    return f"{type(error).__name__}: {error}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its name where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def first_fault(error: ValidationError, whole: str = "the file") -> str:
    """`key.path = value: what is wrong there`, of the first fault, in one line.

    `whole` is named where no key is at fault. Our own checks name what they speak of: their message
    stands alone.
    """
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    key = ".".join(map(str, first["loc"]))
    value = f" = {repr(first['input'])[:60]}" if key and first["type"] != "missing" else ""
    return f"{key or whole}{value}: {message[0].lower()}{message[1:]}"
