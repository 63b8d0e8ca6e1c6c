"""The solver's side of one zygote: its process and the line to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from sandbox.workspace import BOOT, Workspace, common_environment

log = logging.getLogger(__name__)

WARM_TIMEOUT_S = 60.0
START_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0


class ZygoteClient:
    """One zygote, from its start to its end; see `zygote.py` for what is said.

    Calls raise OSError when the zygote is gone and TimeoutError when it does not answer.
    """

    def __init__(self, workspace: Workspace) -> None:
        ours, theirs = socket.socketpair()
        self._log = workspace.folder / "zygote.log"
        environment = {**common_environment(f"{workspace.prefix}zygote."), "HOME": "/"}
        command = [sys.executable, "-I", "-X", "utf8", str(BOOT), "keeper", str(theirs.fileno())]
        try:
            with self._log.open("ab") as errors:
                self._process = subprocess.Popen(
                    [*command, str(workspace.folder), str(workspace.group or ""), str(os.getpid())],
                    # With the lock the uids stay ours until the last process that has one is gone.
                    pass_fds=[theirs.fileno(), *workspace.locks],
                    env=environment,
                    cwd="/",
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pid = 0  # known when it is warm
        workspace.net.cleaner = self._process
        self._socket = ours
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._warm = asyncio.get_running_loop().create_future()
        self._starts: dict[int, asyncio.Future[int]] = {}
        self._ends: dict[int, asyncio.Future[None]] = {}

    @property
    def alive(self) -> bool:
        """Whether it is there to be asked."""
        return self._reading is not None and not self._reading.done()

    async def warm(self) -> None:
        """Wait until it can fork."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        self._reading = asyncio.create_task(self._read(reader))
        async with asyncio.timeout(WARM_TIMEOUT_S):
            await self._warm

    async def start(self, number: int, orders: dict[str, Any]) -> int:
        """Fork kernel `number`; returns its pid, which is its own until `ended`.

        A zygote that does not answer is killed, so that the next kernel has another one.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._starts[number] = answer
        try:
            self._say({"start": number, **orders})
            async with asyncio.timeout(START_TIMEOUT_S):
                return await answer
        except TimeoutError:
            log.warning("zygote %d does not answer; killed", self.pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # its parent, the keeper, sees that and cleans up
            raise
        finally:
            self._starts.pop(number, None)

    def end(self, number: int) -> None:
        """Have kernel `number` killed with all that it started; returns at once."""
        if number not in self._ends:
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._ends[number] = answer
            try:
                self._say({"end": number})
            except OSError as error:
                _fail(answer, error)

    async def ended(self, number: int) -> None:
        """After `end`: wait until nothing of it runs."""
        try:
            await self._ends[number]
        finally:
            self._ends.pop(number, None)

    async def aclose(self) -> None:
        """End it, and with it every kernel."""
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.close()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)
        try:
            await asyncio.to_thread(self._process.wait, CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("zygote %d does not end; killed", self.pid)
            self._process.kill()
            self._process.wait()

    def _say(self, what: dict[str, Any]) -> None:
        if not self.alive or self._writer is None:
            raise ConnectionError(self._epitaph())
        self._writer.write(json.dumps(what).encode() + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                self._take(json.loads(line))
        for future in (self._warm, *self._starts.values(), *self._ends.values()):
            if not future.done():
                _fail(future, ConnectionError(self._epitaph()))

    def _take(self, answer: dict[str, Any]) -> None:
        if "warm" in answer and not self._warm.done():
            self.pid = answer["warm"]
            self._warm.set_result(None)
        elif (start := self._starts.get(answer.get("started", 0))) and not start.done():
            if "pid" in answer:
                start.set_result(answer["pid"])
            else:
                start.set_exception(OSError(answer["error"]))
        elif (end := self._ends.get(answer.get("ended", 0))) and not end.done():
            end.set_result(None)

    def _epitaph(self) -> str:
        with contextlib.suppress(OSError):
            if words := self._log.read_text(errors="replace").strip():
                return f"the zygote is gone: {words.splitlines()[-1]}"
        return "the zygote is gone"


def _fail(future: asyncio.Future[Any], error: OSError) -> None:
    future.set_exception(error)
    future.exception()  # nobody may be waiting for it
