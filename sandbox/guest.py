"""What runs inside a kernel's process: a plain IPython kernel, started fast and bounded from within.

Run by path (`python -I guest.py <connection file> <limits as JSON>`), never imported by the solver:
it needs only the standard library and ipykernel. Nothing here is trusted by the solver; the bounds
that matter are checked again outside.
"""

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SHOWN_FRAMES = 5  # of a traceback: the first and the last
SHOWN_CHARACTERS = 200  # of a line of code in it


class OutputLimitError(BaseException):
    """A cell wrote too much; not an `Exception`, so that a cell's own handlers let it pass."""


def confine(limits: dict[str, int]) -> None:
    """Bind this process to its parent's life and to its limits, before anything else is loaded."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # Daemons of a cell stay below this process, where its owner finds them.
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if os.getppid() != limits["parent"]:  # it died before the signal was asked for
            os._exit(1)
        with contextlib.suppress(OSError):  # when memory runs out, kernels go before the solver
            Path("/proc/self/oom_score_adj").write_text("900")
    bound(resource.RLIMIT_AS, limits["memory_bytes"])
    bound(resource.RLIMIT_FSIZE, limits["file_bytes"])
    bound(resource.RLIMIT_NOFILE, limits["open_files"])
    bound(resource.RLIMIT_CORE, 0)


def bound(kind: int, value: int) -> None:
    """Lower one resource limit; a limit that is already lower stays."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(OSError, ValueError):  # macOS refuses RLIMIT_AS
        resource.setrlimit(kind, (value, value))


class Meter:
    """Counts what a cell writes; past the bound the cell is stopped and the rest is dropped."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.left = most
        self.told = False

    def reset(self, *_: object) -> None:
        """Start counting anew, for the next cell."""
        self.left, self.told = self.most, False

    def wrap(self, write: Callable[[str], Any]) -> Callable[[str], Any]:
        """A `write` that counts."""

        def metered(text: str) -> Any:
            if not isinstance(text, str) or len(text) <= self.left:
                if isinstance(text, str):
                    self.left -= len(text)
                return write(text)
            kept, self.left = text[: self.left], 0
            if kept:
                write(kept)
            self.stop()
            return len(text)

        return metered

    def stop(self) -> None:
        """End the cell: by an exception in the main thread, by a signal from any other."""
        if threading.current_thread() is threading.main_thread():
            raise OutputLimitError(f"more than {self.most} characters of output; cell stopped")
        if not self.told:  # e.g. a child process that floods descriptor 1
            self.told = True
            os.killpg(os.getpgrp(), signal.SIGINT)


def clean(value: Any, most: int) -> Any:
    """`value` with its strings no longer than `most` characters and free of lone surrogates."""
    if isinstance(value, str):
        if len(value) > most:
            value = value[: most // 2] + "\n[...]\n" + value[-(most // 2) :]
        try:
            value.encode()
        except UnicodeEncodeError:
            value = value.encode("utf-8", "backslashreplace").decode()
        return value
    if isinstance(value, dict):
        return {key: clean(item, most) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item, most) for item in value]
    return value


def compact_traceback(
    kind: type[BaseException], error: BaseException, trace: object, *_: object, **__: object
) -> list[str]:
    """A short plain traceback: the frames of cells only, then the error."""
    here = f"{os.sep}ipykernel_{os.getpid()}{os.sep}"
    # For the syntax errors of a cell IPython passes a list instead, mostly empty.
    frames = trace if isinstance(trace, list) else traceback.extract_tb(trace)  # type: ignore[arg-type]
    lines = []
    for frame in (frame for frame in frames if here in frame.filename):
        place = "" if frame.name == "<module>" else f", in {frame.name}"
        lines.append(f"line {frame.lineno}{place}: {(frame.line or '')[:SHOWN_CHARACTERS]}")
    if len(lines) > SHOWN_FRAMES:
        left_out = f"... {len(lines) - SHOWN_FRAMES} calls not shown ..."
        lines = [lines[0], left_out, *lines[1 - SHOWN_FRAMES :]]
    text = "".join(traceback.format_exception_only(kind, error)).rstrip("\n")
    return [*lines, re.sub(r'^  File ".*", line', "line", text)]


def serve(connection_file: str, limits: dict[str, int]) -> None:
    """Run the kernel until it is killed."""
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # 0.3 s of start, and never used
    from ipykernel.kernelapp import IPKernelApp
    from jupyter_client.session import Session

    meter = Meter(limits["accepted_bytes"])

    class BoundedSession(Session):
        def serialize(self, msg: dict[str, Any], ident: Any = None) -> list[bytes]:
            return super().serialize({**msg, "content": clean(msg["content"], meter.most)}, ident)

    class App(IPKernelApp):
        def _session_default(self) -> Session:
            return BoundedSession(parent=self)

        def load_config_file(self, *_: object, **__: object) -> None:
            pass

        def init_io(self) -> None:
            super().init_io()  # type: ignore[no-untyped-call]
            for stream in (sys.stdout, sys.stderr):
                stream.write = meter.wrap(stream.write)  # type: ignore[method-assign]

    app: Any = App.instance(connection_file=connection_file)
    app.config.HistoryManager.enabled = False
    app.config.InteractiveShell.colors = "nocolor"
    app.config.InteractiveShell.xmode = "Plain"
    app.config.InteractiveShellApp.default_extensions = []
    app.initialize([])
    shell = app.shell
    shell.display_formatter.active_types = ["text/plain"]
    shell.InteractiveTB.structured_traceback = compact_traceback
    shell.SyntaxTB.structured_traceback = compact_traceback
    shell.events.register("pre_run_cell", meter.reset)
    # An interrupt that comes as the cell ends would hit the kernel itself, which then never replies.
    shell.events.register("post_execute", lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    sys.path.insert(0, "")  # a cell may import what another one wrote
    warnings.filterwarnings("ignore", message="To exit: use")
    app.start()


if __name__ == "__main__":
    bounds = json.loads(sys.argv[2])
    confine(bounds)
    serve(sys.argv[1], bounds)
