"""The fork server: one warmed process of one thread, whose forks become kernels.

Started by `keeper.py` with a clean environment, never imported by the solver. It speaks JSON lines over a
socket. Asked `{"start": id, ...}` it answers `{"started": id, "pid": n}`, asked `{"end": id}` it kills
all of that kernel and, when it is gone, answers `{"ended": id}`; a kernel stays a zombie until then, so
that its pid is nobody else's. When the solver is gone, or it gets SIGTERM, it kills every kernel and
all that they started, and ends; the folder and the control group go with the solver.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import time
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy

from sandbox import groups
from sandbox.folders import remove_folder
from sandbox.guest import app
from sandbox.hardening.listening import listen
from sandbox.hardening.reaper import end_all_by_fork
from sandbox.hardening.syscalls import PR_SET_CHILD_SUBREAPER, prctl
from sandbox.hardening.tree import children, kill_below, send

ROUNDS, ROUND_S = 400, 0.005  # of waiting, at the end, for what was killed
# What cells import; missing ones are passed over.
WARM = (
    *("numpy", "numpy.fft", "numpy.linalg", "numpy.polynomial", "numpy.random", "mpmath", "sympy"),
    *("sympy.combinatorics", "sympy.sets.setexpr"),
    *("sympy.tensor.tensor", "sympy.parsing.sympy_parser", "sympy.assumptions.wrapper"),
    *("statistics", "fractions"),
)


class Zygote:
    """Starts kernels and ends them, for as long as the solver lives."""

    def __init__(
        self, control: socket.socket, folder: Path, group: Path | None, solver: int
    ) -> None:
        self._control = control
        self._folder = folder
        self._group = group
        self._solver = os.pidfd_open(solver)
        self._kernels: dict[int, tuple[int, int | None]] = {}  # id: (pid, uid)
        self._dying: dict[int, int] = {}  # pid: id
        self._over = False

    def serve(self) -> None:
        """Answer until the solver is gone, then clean up."""
        # A child that ends, or a signal to end, wakes the wait below.
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        control = self._control.fileno()
        waiting = b""
        while not self._over:
            ready, _, _ = select.select([control, wake], [], [])
            if wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
                self._reap()
            if control in ready:
                data = b""
                with contextlib.suppress(OSError):
                    data = self._control.recv(1 << 16)
                self._over = self._over or not data
                *lines, waiting = (waiting + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
        self._finish()

    def _stop(self, *_: object) -> None:
        self._over = True

    def _finish(self) -> None:
        for number in list(self._kernels):
            self._end(number)
        for _ in range(ROUNDS):
            if not self._reap():
                break
            time.sleep(ROUND_S)
        # While the solver lives it still needs the folder and the group, and removes them.
        if select.select([self._solver], [], [], 0)[0]:
            if self._group is not None:
                groups.remove(self._group)
            remove_folder(self._folder)

    def _obey(self, order: dict[str, Any]) -> None:
        if "end" in order:
            self._end(order["end"])
            return
        try:
            self._answer({"started": order["start"], "pid": self._start(order)})
        except OSError as error:
            self._answer({"started": order["start"], "error": str(error)})

    def _answer(self, answer: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the solver is gone: the next read says so
            self._control.sendall(json.dumps(answer).encode() + b"\n")

    def _start(self, order: dict[str, Any]) -> int:
        sockets = listen(Path(order["cage"]["folder"]), tuple(order["sockets"]))
        try:
            pid = os.fork()
            if pid == 0:
                _become_kernel(order, [each.detach() for each in sockets])
        finally:
            for each in sockets:
                each.close()
        uid = order["cage"]["uid"] if "uid" in order["cage"]["layers"] else None
        self._kernels[order["start"]] = (pid, uid)
        return pid

    def _end(self, number: int) -> None:
        """Kill a kernel and all it started; the answer follows when it is gone."""
        if number not in self._kernels:  # its start failed
            self._answer({"ended": number})
            return
        pid, uid = self._kernels.pop(number)
        self._dying[pid] = number
        if uid is None:
            send(pid, signal.SIGSTOP)
            kill_below(pid)
        else:
            end_all_by_fork(uid)
        send(pid, signal.SIGKILL)
        self._reap()

    def _reap(self) -> int:
        """Take leave of what ended, and end what came to us as the reaper of orphans.

        Returns how many are to be waited for still.
        """
        kernels = {pid for pid, _ in self._kernels.values()}
        left = 0
        for pid in set(children().get(os.getpid(), [])) - kernels:
            if pid not in self._dying:
                send(pid, signal.SIGSTOP)
                kill_below(pid)
                send(pid, signal.SIGKILL)
            if not os.waitpid(pid, os.WNOHANG)[0]:
                left += 1
            elif pid in self._dying:
                self._answer({"ended": self._dying.pop(pid)})
        return left


def _become_kernel(order: dict[str, Any], sockets: list[int]) -> None:
    """Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        os.umask(0o077)
        log = os.dup(2)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        kept = [2, *sorted([log, *sockets]), os.sysconf("SC_OPEN_MAX")]
        for before, after in pairwise(kept):
            os.closerange(before + 1, after)
        os.environ.update(order["environment"])
        os.chdir(Path(order["cage"]["folder"], "work"))
        gc.enable()
        numpy.random.seed()  # else all kernels draw the same numbers
        app.run(order, sockets, lambda: os.close(log))
    except BaseException:
        os.write(log, traceback.format_exc().encode())
    finally:
        os._exit(1)


def serve(descriptor: int, folder: str, group: str, solver: int) -> None:
    """Warm up, say so, serve."""
    control = socket.socket(fileno=descriptor)
    zygote = Zygote(control, Path(folder), Path(group) if group else None, solver)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    gc.disable()  # fewer holes in the memory that the kernels share
    app.load((*WARM, *app.LATE))
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise SystemExit(f"the zygote has {threads} threads; it must not fork")
    gc.collect()
    gc.freeze()
    control.sendall(json.dumps({"warm": os.getpid()}).encode() + b"\n")
    zygote.serve()
