"""The seam between the pool and the processes of kernels, and the plain way to start them: cold."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from sandbox.client import HEARD, Client
from sandbox.hardening.listening import listen
from sandbox.limits import Limits
from sandbox.processes import kill_marked, kill_tree, signal_group
from sandbox.workspace import BOOT, Place, Workspace

log = logging.getLogger(__name__)

POLL_S = 0.05  # how soon a death is noticed
REAP_S = 5.0  # a killed process that is not gone by then is given up on


class KernelProcess(Protocol):
    """A started kernel: its process, its folder and the client that talks to it."""

    @property
    def pid(self) -> int:
        """Its process and process group."""
        ...

    @property
    def folder(self) -> Path:
        """Where its working directory `work` is."""
        ...

    @property
    def readable(self) -> bool:
        """Whether its processes can be looked into; see `sandbox.watchdog`."""
        ...

    @property
    def group(self) -> Path | None:
        """Its control group, where there are any."""
        ...

    @property
    def client(self) -> Client:
        """Connected, and not opened yet."""
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

    @property
    def isolation(self) -> str:
        """The layers of isolation in force, in words."""
        ...

    async def launch(self) -> KernelProcess:
        """Start one, without waiting for it to answer. Raises OSError or RuntimeError."""
        ...

    async def aclose(self) -> None:
        """Kill what is left and free everything."""
        ...


class ColdLauncher:
    """Starts every kernel from nothing, as a process of its own (0.15 s of processor time each).

    Belongs to the thread that made it: Linux kills its kernels when that thread ends. A `workspace`
    that is given stays its owner's to close.
    """

    def __init__(
        self,
        limits: Limits,
        executable: str = sys.executable,
        workspace: Workspace | None = None,
    ) -> None:
        self._executable = executable
        self._owns = workspace is None
        self.workspace = workspace or Workspace(limits)

    @property
    def isolation(self) -> str:
        """The layers of isolation in force, in words."""
        return str(self.workspace.isolation)

    async def launch(self) -> KernelProcess:
        """Start one, without waiting for it to answer. Raises OSError or RuntimeError."""
        place = self.workspace.open()
        try:
            process = self._spawn(place)
            try:
                client = Client(place.folder, self.workspace.limits)
            except BaseException:
                signal_group(process.pid, signal.SIGKILL)
                process.wait()
                raise
            return _ColdProcess(process, client, place, self.workspace)
        except BaseException:
            self.workspace.free(place)
            raise

    async def aclose(self) -> None:
        """Kill what is left and free everything."""
        if self._owns:
            await asyncio.to_thread(kill_marked, self.workspace.prefix)
            await asyncio.to_thread(self.workspace.close)

    def _spawn(self, place: Place) -> subprocess.Popen[bytes]:
        sockets = listen(place.folder, HEARD)
        try:
            descriptors = [each.fileno() for each in sockets]
            return subprocess.Popen(
                self._command(place, descriptors),
                env=place.environment,
                cwd=place.folder / "work",
                pass_fds=descriptors,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            for each in sockets:
                each.close()

    def _command(self, place: Place, descriptors: list[int]) -> list[str]:
        orders = json.dumps(self.workspace.orders(place, os.getpid()))
        command = [self._executable, "-I", "-X", "utf8", str(BOOT), "guest.app", orders]
        return [*command, *map(str, descriptors)]


class _ColdProcess:
    def __init__(
        self,
        process: subprocess.Popen[bytes],
        client: Client,
        place: Place,
        workspace: Workspace,
    ) -> None:
        self._process = process
        self._place = place
        self._workspace = workspace
        self._killed = False
        self.client = client
        self.pid = process.pid
        self.folder = place.folder
        self.group = place.group
        self.readable = workspace.isolation.readable

    def alive(self) -> bool:
        return not self._killed and self._process.poll() is None

    def interrupt(self) -> None:
        if self.alive():
            signal_group(self.pid, signal.SIGINT)

    def kill(self) -> None:
        if not self._killed:
            if self.alive():
                kill_tree(self.pid)
            self._killed = True

    async def reap(self) -> None:
        self.client.close()
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        try:
            self._process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            log.warning("kernel process %d does not go away", self.pid)
        self._workspace.sweep(self._place)
        self._workspace.free(self._place)


class NoLauncher:
    """Where no kernel can be had, as on a full disk: every launch says why."""

    def __init__(self, why: OSError) -> None:
        self._why = why
        self.isolation = f"no kernels: {why}"

    async def launch(self) -> KernelProcess:
        """Raises OSError."""
        raise OSError(f"no kernels: {self._why}")

    async def aclose(self) -> None:
        """There is nothing to end."""
