"""One server process: started under a watcher, logged to a file, ended with all its descendants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Self

from solver.engines.vllm.command import Command

_WATCHER = Path(__file__).with_name("watcher.py")
_GRACE_S = 10.0
_END_LIMIT_S = 45.0  # longer than the watcher itself takes to give up
_SWEEPS, _SWEEP_S = 100, 0.05
_TAIL_BYTES = 256 * 1024
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def free_port(wanted: int | None = None) -> int:
    """`wanted` if no process listens there on loopback, else any free port."""
    for port in (wanted, 0):
        if port is not None:
            with socket.socket() as probe, contextlib.suppress(OSError):
                # As the server does: connections of the previous one that are closing do not matter.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


class ServerProcess:
    """A running command. All its processes end with this one, even if this one is killed."""

    def __init__(self, watcher: asyncio.subprocess.Process, log: Path, log_start: int) -> None:
        self._watcher = watcher
        self._log, self._log_start = log, log_start

    @classmethod
    async def start(cls, command: Command, log: Path, *, grace_s: float = _GRACE_S) -> Self:
        """Start `command`; its output is appended to `log`. Raises OSError."""
        with log.open("ab") as output:
            start = output.tell()
            watcher = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(_WATCHER), str(grace_s), *command.argv),
                env=dict(command.environment),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                # No session of its own: Linux divides the CPU by session, and vLLM spins while it
                # waits, so that the sandbox kernels would get too little of it where cores are few.
                process_group=0,
            )
        return cls(watcher, log, start)

    @property
    def exit_code(self) -> int | None:
        """None while any of its processes runs; 128 + signal if a signal ended it."""
        code = self._watcher.returncode
        return 128 - code if code is not None and code < 0 else code

    async def wait(self) -> None:
        """Return when all its processes have ended."""
        code = await self._watcher.wait()
        if code < 0:  # the watcher itself was killed: only its process group is known
            await self._kill_group()

    async def terminate(self) -> None:
        """Ask it to end, and kill what still runs after the grace time."""
        if (lifeline := self._watcher.stdin) is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                lifeline.write(b"t")
                await lifeline.drain()
        await self._end()

    async def kill(self) -> None:
        """Kill it with all its descendants, and return when they have ended."""
        self._close_lifeline()
        await self._end()

    def tail(self, lines: int | None = None) -> list[str]:
        """Its output since it was started: the last `lines`, or all of the last 256 KiB."""
        with self._log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
        said = [_COLOUR.sub("", line).rstrip() for line in re.split(r"[\r\n]+", text)]
        said = [line for line in said if line]
        return said if lines is None else said[-lines:]

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(_END_LIMIT_S):
                await self.wait()
        except TimeoutError:
            await self._kill_group()
            await self.wait()
        finally:
            self._close_lifeline()

    async def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            for _ in range(_SWEEPS):
                os.killpg(self._watcher.pid, signal.SIGKILL)
                await asyncio.sleep(_SWEEP_S)

    def _close_lifeline(self) -> None:
        if (lifeline := self._watcher.stdin) is not None:
            lifeline.close()
