"""Ends the process of a run whose time is up without waiting for anything.

Everything is written by then. Kernels and servers end by themselves: whoever watches over them sees that
the solver is gone.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import NoReturn

from sandbox.processes import abandon
from solver.clock import MonotonicClock


def end_at(deadline: float, code: int) -> None:
    """Have the process end with exit `code` at `deadline` (monotonic seconds), whatever it does then."""
    threading.Thread(target=_wait, args=(deadline, code), name="time limit", daemon=True).start()


def end_now(code: int) -> NoReturn:
    """End the process with exit `code`. Libraries of models take up to a second to be torn down."""
    abandon()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader is gone, or it is closed
            stream.flush()
    os._exit(code)


def _wait(deadline: float, code: int) -> None:
    threading.Event().wait(max(0.0, deadline - MonotonicClock().now()))
    end_now(code)
