"""Starts kernel processes: one cold Python each, by jupyter-client, over ipc where that is to be had."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Protocol

import psutil
import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from sandbox.limits import Limits
from sandbox.output import TRAFFIC_FACTOR
from sandbox.processes import (
    MARK,
    SafetyNet,
    alive,
    kill_marked,
    kill_tree,
    remove_folder,
    signal_group,
)

log = logging.getLogger(__name__)

GUEST = Path(__file__).with_name("guest.py")
SOCKET_PATH_BYTES = 100  # sun_path holds 108 on Linux and 104 on macOS
QUEUED_MESSAGES = 32  # unread messages a channel holds; the rest waits inside the kernel
RECONNECT_MS = 20  # a kernel's sockets appear some 100 ms after we connect
POLL_S = 0.05  # how soon a death is noticed
REAP_S = 5.0  # a killed process that is not gone by then is given up on
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)


class KernelProcess(Protocol):
    """A started kernel: its process and the client that talks to it."""

    @property
    def client(self) -> AsyncKernelClient:
        """Connected on shell and iopub only."""
        ...

    def alive(self) -> bool:
        """Whether the process runs."""
        ...

    def interrupt(self) -> None:
        """Send SIGINT to the process group; returns at once."""
        ...

    def kill(self) -> None:
        """Kill the process and all it started; returns at once, may be called again."""
        ...

    async def reap(self) -> None:
        """After `kill`: free everything it held, its folder too."""
        ...


class Launcher(Protocol):
    """Starts kernel processes, until closed."""

    isolation: str

    async def launch(self) -> KernelProcess:
        """Start one, without waiting for it to answer. Raises OSError or RuntimeError."""
        ...

    async def aclose(self) -> None:
        """Kill what is left and free everything."""
        ...


class ColdLauncher:
    """Starts every kernel from nothing (0.15 s of processor time each).

    Belongs to the thread that made it: Linux kills its kernels when that thread ends.
    """

    isolation = "rlimits, process groups (no file or network isolation)"

    def __init__(self, limits: Limits, executable: str = sys.executable) -> None:
        self._limits = limits
        self._executable = executable
        self._folder = _short_folder()
        self._prefix = f"{uuid.uuid4().hex}."
        self._count = 0
        self._context = zmq.asyncio.Context()
        self._context.setsockopt(zmq.LINGER, 0)
        self._context.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._context.setsockopt(zmq.RCVHWM, QUEUED_MESSAGES)
        largest = TRAFFIC_FACTOR * limits.accepted_bytes + (64 << 10)
        self._context.setsockopt(zmq.MAXMSGSIZE, largest)
        self._net = SafetyNet(self._prefix, self._folder)
        self._net.arm()

    async def launch(self) -> KernelProcess:
        """Start one, without waiting for it to answer. Raises OSError or RuntimeError."""
        self._count += 1
        mark = f"{self._prefix}{self._count}."
        folder = self._folder / str(self._count)
        for name in ("", "work", "tmp"):
            (folder / name).mkdir(mode=0o700)
        manager = AsyncKernelManager(
            context=self._context,
            kernel_spec_manager=_OneSpec(argv=self._command()),
            connection_file=str(folder / "kernel.json"),
            **_transport(folder),
        )
        manager.provisioner = LocalProvisioner(
            kernel_id=mark, kernel_spec=manager.kernel_spec, parent=manager
        )
        try:
            await manager.start_kernel(
                env=_environment(folder, mark),
                cwd=str(folder / "work"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            return _ColdProcess(manager, folder, mark)
        except BaseException:
            with contextlib.suppress(asyncio.CancelledError, asyncio.InvalidStateError):
                manager.ready.exception()  # else asyncio reports it as never retrieved
            if (started := manager.provisioner.process) is not None:
                signal_group(started.pid, signal.SIGKILL)
                started.wait()
            remove_folder(folder)
            raise

    async def aclose(self) -> None:
        """Kill what is left and free everything."""
        await asyncio.to_thread(kill_marked, self._prefix)
        self._context.destroy(linger=0)
        await asyncio.to_thread(remove_folder, self._folder)
        self._net.disarm()

    def _command(self) -> list[str]:
        limits = self._limits.model_dump(
            include={"memory_bytes", "file_bytes", "open_files", "accepted_bytes"}
        )
        guest_limits = json.dumps({**limits, "parent": os.getpid()})
        flags = ["-I", "-X", "utf8"]
        return [self._executable, *flags, str(GUEST), "{connection_file}", guest_limits]


class _OneSpec(KernelSpecManager):
    """Knows our kernel and looks for no other on the disk."""

    def __init__(self, argv: list[str]) -> None:
        super().__init__()
        self._spec = KernelSpec(argv=argv, display_name="sandbox", language="python")

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self._spec


class _ColdProcess:
    def __init__(self, manager: AsyncKernelManager, folder: Path, mark: str) -> None:
        self._manager = manager
        self._folder = folder
        self._mark = mark
        self._killed = False
        provisioner = manager.provisioner
        assert isinstance(provisioner, LocalProvisioner)
        assert provisioner.pid is not None
        self._provisioner = provisioner
        self._process = psutil.Process(provisioner.pid)
        self.client = manager.client(context=manager.context)
        # No heartbeat (a thread each) and no stdin.
        self.client.start_channels(stdin=False, hb=False, control=False)

    def alive(self) -> bool:
        return not self._killed and alive(self._process)

    def interrupt(self) -> None:
        signal_group(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        if not self._killed:
            self._killed = True
            kill_tree(self._process)

    async def reap(self) -> None:
        self.client.shell_channel.stop()
        self.client.iopub_channel.stop()
        try:
            async with asyncio.timeout(REAP_S):
                await self._provisioner.wait()
        except TimeoutError:
            log.warning("kernel process %d does not go away", self._process.pid)
        await self._manager.cleanup_resources()
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        if daemons := kill_marked(self._mark):
            log.info("killed %d processes that a kernel left behind", daemons)
        remove_folder(self._folder)


def _environment(folder: Path, mark: str) -> dict[str, str]:
    """All that a kernel sees of ours; no secret can be in it."""
    work, scratch = str(folder / "work"), str(folder / "tmp")
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "HOME": work,
        "LANG": "C.UTF-8",
        "TZ": os.environ.get("TZ", "UTC"),
        "TMPDIR": scratch,
        "IPYTHONDIR": scratch,
        "MPLCONFIGDIR": scratch,
        "MPLBACKEND": "Agg",
        "PYTHONUTF8": "1",
        "PYTHONNOUSERSITE": "1",
        **dict.fromkeys(ONE_THREAD, "1"),
        MARK: mark,
    }


def _short_folder() -> Path:
    """An own folder (0700), in /tmp where the usual place is too deep for a socket's path."""
    usual = tempfile.gettempdir()
    places = [usual, "/tmp"] if len(usual) > SOCKET_PATH_BYTES // 2 else [usual]
    for place in reversed(places):
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="kernels-", dir=place))
    raise OSError(f"cannot make a folder in {' or '.join(places)}")


def _transport(folder: Path) -> dict[str, str]:
    address = str(folder / "s")
    if zmq.has("ipc") and len(os.fsencode(f"{address}-00")) <= SOCKET_PATH_BYTES:
        return {"transport": "ipc", "ip": address}
    return {"transport": "tcp", "ip": "127.0.0.1"}
