"""What runs inside a kernel's process: a plain IPython kernel, started fast and bounded from within.

Either in a fork of the zygote or in a process of its own, by `boot.py`. Never imported by the solver.
Nothing here is trusted by the solver; the bounds that matter are checked again outside.
"""

import asyncio
import codecs
import contextlib
import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
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
HEARD = ("error", "status", "execute_reply", "kernel_info_reply")
TEXTS = 8  # a text is sent in pieces of this part of all that is accepted
MOST_ITEMS = 16  # of a list in a message
MESSAGE_BYTES = 2 << 10  # what a message counts besides its text
INSTALLS = re.compile(r"\b(?:pip3?|conda|mamba|uv|apt|apt-get)\s+(?:\S+\s+)*?install\b")
PIPE_BYTES, POLL_S = 1 << 16, 0.05  # of a shell command's output
FLUSHES, FLUSH_S = 1000, 0.02  # so many flushes a cell, and then one in that time
SHOWN_FRAMES = 5  # of a traceback: the first and the last
SHOWN_CHARACTERS = 200  # of a line of code in it


class OutputLimitError(BaseException):
    """A cell wrote too much; not an `Exception`, so that a cell's own handlers let it pass."""


class Meter:
    """Counts what a cell writes; past the bound the cell is stopped and the rest is dropped.

    `most` characters, shown values included, and `sent` bytes of messages a cell.
    """

    def __init__(self, most: int, sent: int) -> None:
        self.most, self.most_sent = most, sent
        self.flushed = 0.0
        self.running = False
        self.reset()

    def starts(self, *_: object) -> None:
        """A cell starts."""
        self.running = True
        self.reset()

    def reset(self) -> None:
        """Start counting anew."""
        self.left, self.left_to_send, self.flushes, self.told = self.most, self.most_sent, 0, False

    def may_send(self, text: str, *, shown: bool) -> bool:
        """Count a message with this text; past the bound the cell is stopped.

        `shown`: the text was not written, so it counts as if it had been.
        """
        self.left_to_send -= MESSAGE_BYTES + len(json.dumps(text, ensure_ascii=False))
        if self.left_to_send < 0 or (shown and len(text) > self.left):
            self.stop()
            return False
        if shown:
            self.left -= len(text)
        return True

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

    def calm(self, flush: Callable[[], None]) -> Callable[[], None]:
        """A `flush` that a loop may call after every line: past some number it is done now and then."""

        def calmed() -> None:
            self.flushes += 1
            now = time.monotonic()
            if not self.running or self.flushes <= FLUSHES or now - self.flushed > FLUSH_S:
                self.flushed = now
                flush()

        return calmed

    def stop(self) -> None:
        """End the cell: by an exception in the main thread, by a signal from any other."""
        if threading.current_thread() is threading.main_thread():
            raise OutputLimitError(f"more than {self.most} characters of output; cell stopped")
        if not self.told:  # e.g. a child process that floods descriptor 1
            self.told = True
            os.killpg(os.getpgrp(), signal.SIGINT)


def clean(value: Any, most: int) -> Any:
    """`value` with its texts no longer than `most`, valid UTF-8, and no more than some of its items."""
    if isinstance(value, str):
        if len(value) > most:
            value = value[: most // 2] + "\n[...]\n" + value[-(most // 2) :]
        try:
            value.encode()
        except UnicodeEncodeError:
            value = value.encode("utf-8", "backslashreplace").decode()
        return value
    if isinstance(value, dict):
        return {key: clean(item, most) for key, item in islice(value.items(), MOST_ITEMS)}
    if isinstance(value, list):
        return [clean(item, most) for item in value[:MOST_ITEMS]]
    return value


def text_of(content: Any, name: str) -> str:
    """What `content` has under this name, if that is a text."""
    text = content.get(name) if isinstance(content, dict) else None
    return text if isinstance(text, str) else ""


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


class Pub(IOPubThread):
    """The output thread, without the TCP port by which forked processes would print."""

    def _setup_pipe_in(self) -> None:
        pass

    def _really_send(self, *arguments: Any, **options: Any) -> None:
        if os.getpid() == self._master_pid:
            super()._really_send(*arguments, **options)  # type: ignore[no-untyped-call]


class BoundedSession(Session):
    """Sends only what is heard, in messages no larger than are read."""

    def __init__(self, meter: Meter, **options: Any) -> None:
        super().__init__(**options)
        self.meter = meter
        self.most_text = meter.most // TEXTS + 1000

    def send(
        self, stream: Any, msg_or_type: Any, content: Any = None, *others: Any, **named: Any
    ) -> Any:
        """As the original, but without the parts of a message that nobody reads, or not at all."""
        message = msg_or_type
        if not isinstance(message, dict):
            parent, ident, _, _, header, metadata = (*others, *[None] * 6)[:6]
            parent, ident = named.get("parent", parent), named.get("ident", ident)
            header, metadata = named.get("header", header), named.get("metadata", metadata)
            message = self.msg(message, content, parent, header, metadata)
            named = {"ident": ident}
        message = dict(message, metadata={}, buffers=[])
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            written = text_of(content, "text")
            for start in range(0, len(written), self.most_text):
                text = clean(written[start : start + self.most_text], sys.maxsize)
                if self.meter.may_send(text, shown=False):
                    part = dict(message, content={"name": content.get("name"), "text": text})
                    super().send(stream, part, ident=named.get("ident"))
            return message
        if kind in ("execute_result", "display_data"):
            text = clean(text_of(content.get("data"), "text/plain"), self.most_text)
            if not (text and self.meter.may_send(text, shown=True)):
                return message
            message["content"] = {"data": {"text/plain": text}}
        elif kind in HEARD:
            message["content"] = clean(content, self.most_text // TEXTS)
        else:
            return message
        return super().send(stream, message, ident=named.get("ident"))


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
    shell.system = _system(shell, network=network)
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


def _system(shell: Any, *, network: bool) -> Callable[[str], None]:
    """What `!` does: no terminal (there is none), nothing to read, and the output as it comes."""

    def system(command: str) -> None:
        line = shell.var_expand(command, depth=1)
        if not network and INSTALLS.search(line):
            sys.stdout.write("[no network in this sandbox]: nothing can be installed\n")
            shell.user_ns["_exit_code"] = 1
            return
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        process = subprocess.Popen(
            line,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        try:
            with process.stdout as output:
                # What it started in the background may hold the pipe open for ever.
                while process.poll() is None or select.select([output], [], [], 0)[0]:
                    if select.select([output], [], [], POLL_S)[0]:
                        if not (data := os.read(output.fileno(), PIPE_BYTES)):
                            break
                        sys.stdout.write(decode(data))
            shell.user_ns["_exit_code"] = process.wait()
        finally:
            process.kill()

    return system


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
