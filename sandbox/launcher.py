"""The seam between the pool and the processes of kernels, and the plain way to start them: cold."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import psutil
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from sandbox.limits import Limits
from sandbox.processes import alive, kill_marked, kill_tree, signal_group
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
    """Starts every kernel from nothing, by jupyter-client (0.15 s of processor time each).

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
        manager = AsyncKernelManager(
            context=self.workspace.context,
            kernel_spec_manager=_OneSpec(argv=self._command(place)),
            connection_file=str(place.folder / "kernel.json"),
            **place.transport,
        )
        manager.provisioner = LocalProvisioner(
            kernel_id=place.mark, kernel_spec=manager.kernel_spec, parent=manager
        )
        try:
            await manager.start_kernel(
                env=place.environment,
                cwd=str(place.folder / "work"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            return _ColdProcess(manager, place, self.workspace)
        except BaseException:
            with contextlib.suppress(asyncio.CancelledError, asyncio.InvalidStateError):
                manager.ready.exception()  # else asyncio reports it as never retrieved
            if (started := manager.provisioner.process) is not None:
                signal_group(started.pid, signal.SIGKILL)
                started.wait()
            self.workspace.free(place)
            raise

    async def aclose(self) -> None:
        """Kill what is left and free everything."""
        if self._owns:
            await asyncio.to_thread(kill_marked, self.workspace.prefix)
            await asyncio.to_thread(self.workspace.close)

    def _command(self, place: Place) -> list[str]:
        orders = json.dumps(self.workspace.orders(place, os.getpid()))
        command = [self._executable, "-I", "-X", "utf8", str(BOOT), "guest"]
        return [*command, "{connection_file}", orders]


class _OneSpec(KernelSpecManager):
    """Knows our kernel and looks for no other on the disk."""

    def __init__(self, argv: list[str]) -> None:
        super().__init__()
        self._spec = KernelSpec(argv=argv, display_name="sandbox", language="python")

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self._spec


class _ColdProcess:
    def __init__(self, manager: AsyncKernelManager, place: Place, workspace: Workspace) -> None:
        self._manager = manager
        self._place = place
        self._workspace = workspace
        self._killed = False
        provisioner = manager.provisioner
        assert isinstance(provisioner, LocalProvisioner)
        assert provisioner.pid is not None
        self._provisioner = provisioner
        self._process = psutil.Process(provisioner.pid)
        self.pid = provisioner.pid
        self.folder = place.folder
        self.client = manager.client(context=manager.context)
        # No heartbeat (a thread each) and no stdin.
        self.client.start_channels(stdin=False, hb=False, control=False)

    def alive(self) -> bool:
        return not self._killed and alive(self._process)

    def interrupt(self) -> None:
        signal_group(self.pid, signal.SIGINT)

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
            log.warning("kernel process %d does not go away", self.pid)
        await self._manager.cleanup_resources()
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        self._workspace.sweep(self._place)
        self._workspace.free(self._place)
