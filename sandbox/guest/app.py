"""The kernel application: set up as its owner orders, confined, and then served."""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import zmq
from ipykernel import kernelapp
from ipykernel.control import ControlThread
from ipykernel.iostream import IOPubThread
from ipykernel.ipkernel import IPythonKernel
from ipykernel.shellchannel import ShellChannelThread
from IPython.core.display import TextDisplayObject
from IPython.utils import PyColorize
from jupyter_client.session import Session

from sandbox.guest.commands import runner
from sandbox.guest.messages import BoundedSession, Pub
from sandbox.guest.meter import Meter
from sandbox.guest.tracebacks import compact_traceback, of_cell
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


class Kernel(IPythonKernel):
    """The kernel, which replies whatever becomes of a cell."""

    async def do_execute(self, *arguments: Any, **options: Any) -> Any:
        """As the original, which does not reply where IPython itself fails: code that is too deep."""
        try:
            return await super().do_execute(*arguments, **options)  # type: ignore[no-untyped-call]
        except (Exception, KeyboardInterrupt) as error:
            count = self.shell.execution_count if self.shell is not None else 0
            failed = {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
            return {"status": "error", "execution_count": count, **failed}

    @contextlib.contextmanager
    def _cancel_on_sigint(self, future: asyncio.Future[Any]) -> Iterator[None]:
        """Cancel the cell while it waits; raise in it while it runs."""
        loop = asyncio.get_running_loop()

        def interrupted(_: int, frame: FrameType | None) -> None:
            while frame is not None:
                if of_cell(frame.f_code.co_filename):
                    raise KeyboardInterrupt
                frame = frame.f_back
            loop.call_soon_threadsafe(future.cancel)

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is interrupted:  # else its time is over, see below
                signal.signal(signal.SIGINT, before)


class App(kernelapp.IPKernelApp):
    """The kernel application, told all it needs by its owner: it reads and writes no files."""

    meter: Meter
    sockets: tuple[int, ...] = ()  # that listen: for shell and iopub

    def _session_default(self) -> Session:
        return BoundedSession(self.meter, parent=self, key=b"")

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

    def _bind_socket(self, socket: Any, port: int) -> int:
        """Take one that listens already; what nobody talks to (stdin, control) is not bound."""
        if 0 < port <= len(self.sockets):
            socket.sndhwm = 0  # what is sent is counted by the meter, and none of it is to be lost
            socket.setsockopt(zmq.USE_FD, self.sockets[port - 1])
            socket.bind(f"ipc:///{port}")  # a name in messages only
        return port

    def init_control(self, context: Any) -> None:
        """As the original, but the debugger's socket is not connected to our own."""
        self.control_socket = context.socket(zmq.ROUTER)
        self.debugpy_socket = context.socket(zmq.STREAM)
        self.debug_shell_socket = context.socket(zmq.DEALER)
        for socket in (self.control_socket, self.debugpy_socket, self.debug_shell_socket):
            socket.linger = 1000
        self.control_thread = ControlThread(daemon=True)  # type: ignore[no-untyped-call]
        self.shell_channel_thread = ShellChannelThread(context, daemon=True)

    def init_io(self) -> None:
        """As the original, and counts what is written."""
        super().init_io()  # type: ignore[no-untyped-call]
        for stream in (sys.stdout, sys.stderr):
            stream.write = self.meter.wrap(stream.write)  # type: ignore[method-assign]
            stream.flush = self.meter.calm(stream.flush)  # type: ignore[method-assign]


def serve(sockets: list[int], meter: Meter, confine: Callable[[], None], *, network: bool) -> None:
    """Run the kernel until it is killed; `confine` is called before it takes the first cell."""
    vars(kernelapp)["IOPubThread"] = Pub
    App.meter, App.sockets = meter, tuple(sockets)
    app: Any = App.instance()
    app.kernel_class = Kernel
    app.shell_port, app.iopub_port = 1, 2
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
    shell.system = runner(shell, network=network)
    shell.events.register("pre_run_cell", meter.starts)
    shell.events.register("post_execute", _after_cell(os.getpid(), meter, app.iopub_thread))
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


def _after_cell(kernel: int, meter: Meter, pub: IOPubThread) -> Callable[[], None]:
    def after() -> None:
        meter.running = False
        if os.getpid() == kernel and not pub.thread.is_alive():
            os._exit(1)  # a kernel whose output is lost says nothing true any more
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
    orders: dict[str, Any], sockets: list[int], set_up: Callable[[], None] = lambda: None
) -> None:
    """Confine this process as ordered, then be a kernel; `set_up` is called before its first cell."""
    held = cage.Cage(**{**orders["cage"], "layers": tuple(orders["cage"]["layers"])})
    cage.enter(held)

    def confine() -> None:
        set_up()
        cage.close(held)

    meter = Meter(orders["accepted_bytes"], orders["sent_bytes"])
    serve(sockets, meter, confine, network="seccomp" not in held.layers)


def load(modules: Iterable[str]) -> None:
    """Import the modules; another version of a library may lack one."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    getattr(PyColorize, "theme_table", {}).keys()  # read from files once


def main(orders: str, *sockets: str) -> None:
    """Be a cold kernel."""
    load(LATE)
    run(json.loads(orders), list(map(int, sockets)))
