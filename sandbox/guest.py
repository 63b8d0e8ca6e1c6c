"""What runs inside a kernel's process: a plain IPython kernel, started fast and bounded from within.

Either in a fork of the zygote or in a process of its own, by `boot.py`. Never imported by the solver.
Nothing here is trusted by the solver; the bounds that matter are checked again outside.
"""

import contextlib
import importlib
import json
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import zmq
from ipykernel import kernelapp
from ipykernel.control import ControlThread
from ipykernel.iostream import IOPubThread
from ipykernel.shellchannel import ShellChannelThread
from IPython.core.display import TextDisplayObject
from IPython.utils import PyColorize
from jupyter_client.session import Session

from sandbox.hardening import cage

# What IPython imports only when it is set up or runs a cell, which is too late for a new uid that
# cannot read the interpreter's files, and for a fork that should be quick.
LATE = (
    *("bdb", "cmd", "code", "difflib", "faulthandler", "pdb", "ipykernel.debugger", "zmq.asyncio"),
    "unicodedata",
    *("IPython.core.completerlib", "IPython.core.debugger", "IPython.core.magics.execution"),
    *("IPython.core.oinspect", "IPython.core.magic_arguments", "IPython.core.magics.ast_mod"),
    *("IPython.utils.wildcard", "IPython.utils.module_paths", "IPython.utils.timing"),
    *("IPython.core.debugger_backport", "IPython.extensions", "pexpect"),
    *("tornado.locks", "tornado.queues", "tornado.gen", "tornado.platform.asyncio"),
)
SHOWN_FRAMES = 5  # of a traceback: the first and the last
SHOWN_CHARACTERS = 200  # of a line of code in it


class OutputLimitError(BaseException):
    """A cell wrote too much; not an `Exception`, so that a cell's own handlers let it pass."""


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


class Pub(IOPubThread):
    """The output thread, without the TCP port by which forked processes would print."""

    def _setup_pipe_in(self) -> None:
        pass

    def _really_send(self, *arguments: Any, **options: Any) -> None:
        if os.getpid() == self._master_pid:
            super()._really_send(*arguments, **options)  # type: ignore[no-untyped-call]


class App(kernelapp.IPKernelApp):
    """The kernel application, told all it needs by its owner: it reads and writes no files."""

    metered_bytes = 0

    def _session_default(self) -> Session:
        most = self.metered_bytes

        class BoundedSession(Session):
            def serialize(self, msg: dict[str, Any], ident: Any = None) -> list[bytes]:
                return super().serialize({**msg, "content": clean(msg["content"], most)}, ident)

        return BoundedSession(parent=self)

    def load_config_file(self, *_: object, **__: object) -> None:
        """Nothing of the user's configures a kernel."""

    def parse_command_line(self, argv: Any = None) -> None:
        """There is none."""

    def init_connection_file(self) -> None:
        """We are told where to listen."""

    def write_connection_file(self, **_: Any) -> None:
        """Whoever started us knows."""

    def init_heartbeat(self) -> None:
        """Nobody listens to it; a death is seen by the process."""

    def init_control(self, context: Any) -> None:
        """As the original, but the debugger's socket is not connected to our own."""
        self.control_socket = context.socket(zmq.ROUTER)
        bind: Any = self._bind_socket
        self.control_port = bind(self.control_socket, self.control_port)
        self.debugpy_socket = context.socket(zmq.STREAM)
        self.debug_shell_socket = context.socket(zmq.DEALER)
        for socket in (self.control_socket, self.debugpy_socket, self.debug_shell_socket):
            socket.linger = 1000
        self.control_thread = ControlThread(daemon=True)  # type: ignore[no-untyped-call]
        self.shell_channel_thread = ShellChannelThread(context, daemon=True)

    def init_io(self) -> None:
        """As the original, and counts what is written."""
        super().init_io()  # type: ignore[no-untyped-call]
        meter = Meter(self.metered_bytes)
        for stream in (sys.stdout, sys.stderr):
            stream.write = meter.wrap(stream.write)  # type: ignore[method-assign]
        self.meter = meter


def serve(connection: dict[str, Any], accepted_bytes: int, confine: Callable[[], None]) -> None:
    """Run the kernel until it is killed; `confine` is called before it takes the first cell."""
    vars(kernelapp)["IOPubThread"] = Pub
    App.metered_bytes = accepted_bytes
    app: Any = App.instance()
    app.load_connection_info(connection)
    app.config.HistoryManager.enabled = False
    app.config.InteractiveShell.colors = "nocolor"
    app.config.InteractiveShell.xmode = "Plain"
    app.config.InteractiveShell.display_page = True  # `sum?` is output: there is no pager
    app.default_extensions = []
    app.log_level = "CRITICAL"
    app.initialize([])
    shell = app.shell
    shell.display_formatter.active_types = ["text/plain"]
    shell.display_formatter.formatters["text/plain"].for_type(TextDisplayObject, _show_text)
    shell.InteractiveTB.structured_traceback = compact_traceback
    shell.SyntaxTB.structured_traceback = compact_traceback
    shell.events.register("pre_run_cell", app.meter.reset)
    shell.events.register("post_execute", _after_cell(os.getpid()))
    shell.events.register("post_run_cell", _with_words)
    sys.set_int_max_str_digits(0)  # a long computation is bounded by the cell's time
    sys.path.insert(0, "")  # a cell may import what another one wrote
    warnings.filterwarnings("ignore", message="To exit: use")
    os.register_at_fork(after_in_child=_print_plainly)
    confine()
    app.start()


def _show_text(shown: TextDisplayObject, printer: Any, cycle: bool) -> None:
    """Markdown, LaTeX and HTML as they were written: whoever reads it sees no rendering."""
    printer.text(str(shown.data or ""))


def _after_cell(kernel: int) -> Callable[[], None]:
    def after() -> None:
        if os.getpid() != kernel:  # a fork that ran to the end of the cell is no second kernel
            sys.stdout.flush()
            os._exit(0)
        # An interrupt that came now would hit the kernel itself, which then would never reply.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    return after


def _with_words(result: Any) -> None:
    """The kernel's reply needs the text of an error: without one it would never be sent."""
    try:
        str(result.error_in_exec)
    except BaseException:
        result.error_in_exec = RuntimeError("the exception cannot say what it is")


def _print_plainly() -> None:
    """A fork has none of the kernel's threads; its descriptor 1 is read by the kernel."""
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115


def run(
    orders: dict[str, Any], connection: dict[str, Any], set_up: Callable[[], None] = lambda: None
) -> None:
    """Confine this process as ordered, then be a kernel; `set_up` is called before its first cell."""
    held = cage.Cage(**{**orders["cage"], "layers": tuple(orders["cage"]["layers"])})
    cage.enter(held)

    def confine() -> None:
        set_up()
        cage.close(held)

    serve(connection, orders["accepted_bytes"], confine)


def load(modules: Iterable[str]) -> None:
    """Import the modules; another version of a library may lack one."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    getattr(PyColorize, "theme_table", {}).keys()  # read from files once


def main(connection_file: str, orders: str) -> None:
    """Be a cold kernel."""
    load(LATE)
    run(json.loads(orders), json.loads(Path(connection_file).read_text()))
