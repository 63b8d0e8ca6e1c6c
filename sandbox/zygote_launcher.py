"""Starts kernels as forks of a warmed zygote, and cold ones while there is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import sys

from sandbox.client import HEARD, Client
from sandbox.launcher import REAP_S, ColdLauncher, KernelProcess, Launcher
from sandbox.limits import Limits
from sandbox.processes import kill_marked, signal_group
from sandbox.workspace import Place, Workspace
from sandbox.zygote_client import ZygoteClient

log = logging.getLogger(__name__)

TRIES = 3  # in a row of warming a zygote, before every kernel starts cold


class ZygoteLauncher:
    """Forks kernels off a zygote. Belongs to the thread that made it, as `ColdLauncher` does.

    The first kernel waits until the zygote is warm. When it dies its kernels die with it; another
    is warmed then, and until it is ready kernels start cold.
    """

    def __init__(self, limits: Limits) -> None:
        self.workspace = Workspace(limits)
        self._cold = ColdLauncher(limits, workspace=self.workspace)
        self._zygote: ZygoteClient | None = None
        self._warming: asyncio.Task[None] | None = None
        self._first: asyncio.Task[None] | None = None
        self._failures = 0  # in a row

    @property
    def isolation(self) -> str:
        """The layers of isolation in force, in words."""
        return str(self.workspace.isolation)

    async def launch(self) -> KernelProcess:
        """Start one, without waiting for it to answer. Raises OSError or RuntimeError."""
        zygote = await self._warm_zygote()
        if zygote is None:
            return await self._cold.launch()
        place = self.workspace.open()
        orders = {
            **self.workspace.orders(place, zygote.pid),
            "environment": place.environment,
            "sockets": HEARD,
        }
        try:
            pid = await zygote.start(place.number, orders)
            client = Client(place.folder, self.workspace.limits)
            try:
                return _ForkedKernel(pid, client, place, zygote, self.workspace)
            except BaseException:
                client.close()
                raise
        except BaseException:  # whatever was started ends before its place is free again
            zygote.end(place.number)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(REAP_S):
                    await zygote.ended(place.number)
            await asyncio.to_thread(self.workspace.free, place)
            raise

    async def aclose(self) -> None:
        """Kill what is left and free everything."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        if self._zygote is not None:
            await self._zygote.aclose()
        await asyncio.to_thread(kill_marked, self.workspace.prefix)
        await asyncio.to_thread(self.workspace.close)

    async def _warm_zygote(self) -> ZygoteClient | None:
        if (zygote := self._living()) is not None:
            return zygote
        if self._warming is None:
            self._warming = self._first = asyncio.create_task(self._warm())
        elif self._warming.done() and self._failures < TRIES:
            log.warning("the zygote is gone; until another one is warm kernels start cold")
            self._warming = asyncio.create_task(self._warm())
        if self._warming is self._first:
            await asyncio.shield(self._warming)
        return self._living()  # the dead one stays in its place until the next one begins to warm

    def _living(self) -> ZygoteClient | None:
        return self._zygote if self._zygote is not None and self._zygote.alive else None

    async def _warm(self) -> None:
        gone, self._zygote = self._zygote, None
        if gone is not None:
            await gone.aclose()
        zygote = ZygoteClient(self.workspace)
        try:
            await zygote.warm()
        except BaseException as error:
            await zygote.aclose()
            if not isinstance(error, (OSError, TimeoutError)):
                raise
            self._failures += 1
            log.warning("no zygote, kernels start cold: %s", error)
        else:
            self._failures = 0
            self._zygote = zygote


class _ForkedKernel:
    def __init__(
        self,
        pid: int,
        client: Client,
        place: Place,
        zygote: ZygoteClient,
        workspace: Workspace,
    ) -> None:
        self.client = client
        self.pid = pid
        self.folder = place.folder
        self.group = place.group
        self.readable = workspace.isolation.readable
        self._descriptor = os.pidfd_open(pid)  # ours, whoever has the number later
        self._death = select.poll()
        self._death.register(self._descriptor, select.POLLIN)
        self._place = place
        self._zygote = zygote
        self._workspace = workspace
        self._killed = False

    def alive(self) -> bool:
        return not (self._killed or self._death.poll(0))

    def interrupt(self) -> None:
        if self.alive():
            signal_group(self.pid, signal.SIGINT)

    def kill(self) -> None:
        if not self._killed:
            if self.alive():
                signal_group(self.pid, signal.SIGKILL)
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            self._killed = True
            self._zygote.end(self._place.number)

    async def reap(self) -> None:
        self.client.close()
        os.close(self._descriptor)
        try:
            async with asyncio.timeout(REAP_S):
                await self._zygote.ended(self._place.number)
        except (OSError, TimeoutError):  # the zygote is gone, and took the kernel with it
            await asyncio.to_thread(self._workspace.sweep, self._place)
        await asyncio.to_thread(self._workspace.free, self._place)


def default_launcher(limits: Limits) -> Launcher:
    """A zygote on Linux, cold kernels elsewhere."""
    return ZygoteLauncher(limits) if sys.platform == "linux" else ColdLauncher(limits)
