"""Tracebacks as a model is told them: short, plain, of cells only."""

import os
import re
import traceback

SHOWN_FRAMES = 5  # the first and the last
SHOWN_CHARACTERS = 200  # of a line of code


def of_cell(filename: str) -> bool:
    """Whether code of this name is a cell's."""
    return f"{os.sep}ipykernel_{os.getpid()}{os.sep}" in filename


def compact_traceback(
    kind: type[BaseException], error: BaseException, trace: object, *_: object, **__: object
) -> list[str]:
    """A short plain traceback: the frames of cells only, then the error."""
    # For the syntax errors of a cell IPython passes a list instead, mostly empty.
    frames = trace if isinstance(trace, list) else traceback.extract_tb(trace)  # type: ignore[arg-type]
    lines = []
    for frame in (frame for frame in frames if of_cell(frame.filename)):
        place = "" if frame.name == "<module>" else f", in {frame.name}"
        lines.append(f"line {frame.lineno}{place}: {(frame.line or '')[:SHOWN_CHARACTERS]}")
    if len(lines) > SHOWN_FRAMES:
        left_out = f"... {len(lines) - SHOWN_FRAMES} calls not shown ..."
        lines = [lines[0], left_out, *lines[1 - SHOWN_FRAMES :]]
    text = "".join(traceback.format_exception_only(kind, error)).rstrip("\n")
    return [*lines, re.sub(r'^  File ".*", line', "line", text)]
