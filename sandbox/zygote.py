"""The fork server: one warmed process of one thread, whose forks become kernels.

Run by path (`python -I zygote.py FD FOLDER`) with a clean environment, never imported by the solver. It
speaks JSON lines over the socket FD. Asked `{"start": id, ...}` it answers `{"started": id, "pid": n}`,
asked `{"end": id}` it kills all of that kernel and answers `{"ended": id}`; a kernel stays a zombie
until then, so that its pid is nobody else's. When the solver is gone it kills every kernel, and all
that they started, removes FOLDER and ends.
"""

import contextlib
import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sandbox import guest
from sandbox.hardening.reaper import end_all_by_fork
from sandbox.hardening.syscalls import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl

sys.path.pop(0)

LINE_BYTES = 1 << 20
ROUNDS = 1000  # of looking for what is still there, before something is given up on
ROUND_S = 0.005


class Zygote:
    """Starts kernels and ends them, for as long as the solver lives."""

    def __init__(self, control: socket.socket, folder: Path) -> None:
        self._control = control
        self._folder = folder
        self._kernels: dict[int, tuple[int, int | None]] = {}  # id: (pid, uid)
        self._dead: set[int] = set()  # pids of kernels that ended and are not asked for yet

    def serve(self) -> None:
        """Answer until the solver is gone, then clean up."""
        # Any child that ends wakes the poll below.
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        waiting = b""
        while True:
            ready, _, _ = select.select([self._control, wake], [], [])
            if wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
                self._end_strays()
            if self._control in ready:
                try:
                    data = self._control.recv(1 << 16)
                except OSError:
                    data = b""
                if not data:
                    return self.finish()
                *lines, waiting = (waiting + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def finish(self, *_: object) -> None:
        """Kill everything, remove the folder, end."""
        for number in list(self._kernels):
            self._end(number)
        self._end_strays()
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(0)

    def _obey(self, order: dict[str, Any]) -> None:
        if "start" in order:
            answer: dict[str, Any] = {"started": order["start"]}
            try:
                answer["pid"] = self._start(order)
            except OSError as error:
                answer["error"] = str(error)
        else:
            self._end(order["end"])
            answer = {"ended": order["end"]}
        with contextlib.suppress(OSError):  # the solver is gone: the next read says so
            self._control.sendall(json.dumps(answer).encode() + b"\n")

    def _start(self, order: dict[str, Any]) -> int:
        pid = os.fork()
        if pid == 0:
            _become_kernel(order)
        uid = order["cage"]["uid"] if "uid" in order["cage"]["layers"] else None
        self._kernels[order["start"]] = (pid, uid)
        return pid

    def _end(self, number: int) -> None:
        pid, uid = self._kernels.pop(number, (0, None))
        if not pid:
            return
        if uid is not None:
            end_all_by_fork(uid)
        _kill_below(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        self._end_strays()

    def _end_strays(self) -> None:
        """Kill and reap whatever came to us, the reaper of orphans, from a kernel that died."""
        kernels = {pid for pid, _ in self._kernels.values()}
        for _ in range(ROUNDS):
            strays = set(_children(os.getpid())) - kernels
            if not strays:
                return
            for stray in strays:
                _kill_below(stray)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(stray, signal.SIGKILL)
            for stray in strays:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(stray, 0)


def _children(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        found = [Path(task, "children").read_text().split() for task in tasks]
    except OSError:
        return []
    return [int(child) for children in found for child in children]


def _kill_below(pid: int) -> None:
    """Kill all descendants of `pid`; stopped first, so that they do not fork meanwhile."""
    stopped: set[int] = set()
    for _ in range(ROUNDS):
        found = [pid]
        for parent in found:
            found += _children(parent)
        fresh = set(found) - stopped
        if not fresh:
            break
        for process in fresh:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGSTOP)
        stopped |= fresh
    for process in stopped - {pid}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def _become_kernel(order: dict[str, Any]) -> None:
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
        os.closerange(3, log)
        os.closerange(log + 1, os.sysconf("SC_OPEN_MAX"))
        os.environ.update(order["environment"])
        os.chdir(Path(order["cage"]["folder"], "work"))
        gc.enable()
        guest.run(order, order["connection"], lambda: os.close(log))
    except BaseException:
        os.write(log, traceback.format_exc().encode())
    finally:
        os._exit(1)


def main() -> None:
    """Warm up, say so, serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    zygote = Zygote(control, Path(sys.argv[2]))
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, zygote.finish)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    guest.warm_up()
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise SystemExit(f"the zygote has {threads} threads; it must not fork")
    gc.collect()
    gc.freeze()
    control.sendall(b'{"warm": true}\n')
    zygote.serve()


if __name__ == "__main__":
    main()
