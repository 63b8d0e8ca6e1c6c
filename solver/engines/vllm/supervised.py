"""A vLLM server process of our own: started, restarted when it is lost, ended with the run."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path

from solver.engines.vllm.client import Client
from solver.engines.vllm.command import MemorySettings, Recipe
from solver.engines.vllm.hosts import Say, ServerLost
from solver.engines.vllm.process import ServerProcess, free_port
from solver.engines.vllm.server_log import (
    cause,
    difference,
    port_was_taken,
    progress,
    reduced_memory,
)
from solver.errors import EngineError, ModelError, UserError

_ENDING_S = 2.0  # a server whose engine process crashed exits within about one
_PORTS = 3  # other ports that are tried when one is taken
_POLL_S, _PROBE_S = 0.25, 5.0
_TAIL = 30
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0


def back_off(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 0.5, 1, 2, ... 30."""
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures - 1, 10))


class Supervised:
    """A `Host` that is a process of ours, on a loopback port of its own.

    `say` gets progress, `on_incident` what belongs into the run's result: smaller settings, restarts.
    """

    def __init__(
        self,
        recipe: Recipe,
        log: Path,
        *,
        say: Say,
        on_incident: Say,
        progress_s: float = 10.0,
    ) -> None:
        self._recipe, self._memory, self._log = recipe, recipe.memory, log
        self._say, self._on_incident, self._progress_s = say, on_incident, progress_s
        # A unique model name: a server that serves it is the one that was started here.
        self._name = f"{recipe.model_folder.name}-{secrets.token_hex(4)}"
        self._port: int | None = None
        self._process: ServerProcess | None = None
        self._ports_tried, self._is_reduced = 0, False
        self._failures = 0

    @property
    def url(self) -> str:
        """Its base address; the port may be another one after a restart."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start it and return when it answers. Raises `ModelError`, the log's tail as a note."""
        limit = self._recipe.vllm.start_limit_s
        self._ports_tried = 0
        try:
            async with asyncio.timeout(limit):
                while not await self._start_once():
                    pass
        except BaseException as error:
            await self._kill()
            if isinstance(error, TimeoutError):
                raise self._failure(
                    f"vLLM did not answer within {limit:g} s: set vllm.start_limit_s higher"
                ) from None
            raise

    async def recover(self) -> None:
        """Kill the process and start it again. Raises `EngineError` after `vllm.max_restarts`."""
        await self._wait_for_exit()
        what, most = self._describe_exit(), self._recipe.vllm.max_restarts
        await self._kill()
        while True:
            self._failures += 1
            if self._failures > most:
                raise EngineError(f"{what}; given up after {most} restarts in a row")
            wait = back_off(self._failures)
            self._on_incident(f"{what}; restart {self._failures} of {most} in {wait:g} s")
            await asyncio.sleep(wait)
            try:
                return await self.start()
            except UserError as error:
                what = str(error)

    def reset_failures(self) -> None:
        """A token came: failures in a row are counted from 0 again."""
        self._failures = 0

    async def aclose(self) -> None:
        """Ask the server to end, and kill it after a grace time."""
        if self._process is not None:
            await self._process.terminate()

    async def _start_once(self) -> bool:
        """Start it once; False if it failed and is worth another attempt with the changed port or memory.

        Raises `ModelError` if it is not.
        """
        self._port = free_port(self._port)
        command = self._recipe.command(self._port, self._name, self._memory)
        self._process = await ServerProcess.start(command, self._log)
        name = await self._wait_for_name(self._process)
        if name == self._name:
            return True
        await self._process.kill()
        if (
            name is not None or port_was_taken(self._process.tail())
        ) and self._ports_tried < _PORTS:
            self._ports_tried += 1
            self._port = None
        elif not self._reduce_memory():
            raise self._failure(self._describe_exit())
        return False

    async def _wait_for_name(self, process: ServerProcess) -> str | None:
        """The name of the model that is served on our port; None if the process ended first."""
        loop = asyncio.get_running_loop()
        began = said = loop.time()
        while process.exit_code is None:
            if (name := await _served_name(self.url)) is not None:
                return name
            if (now := loop.time()) - said >= self._progress_s:
                said = now
                self._say(f"vLLM starts, {now - began:.0f} s: {progress(process.tail())}")
            await asyncio.sleep(_POLL_S)
        return None

    def _reduce_memory(self) -> bool:
        """After a start that did not fit into memory: lower the settings, but only once."""
        assert self._process is not None
        lines = self._process.tail()
        less = reduced_memory(
            self._memory, lines, self._process.exit_code, length_is_free=self._recipe.length_is_free
        )
        if less is None or self._is_reduced or not self._changes(less):
            return False
        less = less.for_device(on_cpu=self._recipe.on_cpu, configured=self._recipe.memory)
        self._on_incident(
            f"vLLM did not fit into memory ({cause(lines)}): started again with "
            + difference(self._memory, less)
        )
        self._memory, self._is_reduced = less, True
        return True

    def _changes(self, memory: MemorySettings) -> bool:
        # A flag in vllm.args replaces ours, so that smaller settings may change nothing.
        return self._recipe.command(0, "", memory) != self._recipe.command(0, "", self._memory)

    def _describe_exit(self) -> str:
        """How the process ended, and why as far as its log says."""
        process = self._process
        if process is None or (code := process.exit_code) is None:
            return "the vLLM server does not answer"
        how = f"signal {code - 128}" if code > 128 else f"exit code {code}"
        why = cause(process.tail())
        return f"the vLLM server ended ({how})" + (f": {why}" if why else "")

    def _failure(self, what: str) -> ModelError:
        error = ModelError(f"{what}; its log is {self._log}")
        if self._process is not None:
            error.add_note("\n".join(self._process.tail(_TAIL)))
        return error

    async def _wait_for_exit(self) -> None:
        """Wait a moment for a process that is ending by itself, so that its exit code is known."""
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ENDING_S):
                    await self._process.wait()

    async def _kill(self) -> None:
        if self._process is not None:
            await self._process.kill()


async def _served_name(url: str) -> str | None:
    """The name of the model behind `url`; empty if it is no vLLM server, None if nothing answers."""
    client = Client(url)
    try:
        async with asyncio.timeout(_PROBE_S):
            return (await client.model_info()).name
    except (TimeoutError, ServerLost):
        return None
    except EngineError:
        return ""
    finally:
        await client.aclose()
