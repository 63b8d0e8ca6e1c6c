"""One kernel: waits until it is ready, runs cells under an absolute deadline, and never outlives it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from sandbox.launcher import POLL_S, KernelProcess
from sandbox.limits import Limits
from sandbox.output import Output
from sandbox.result import ExecutionResult, ExecutionStatus, refusal, shares
from sandbox.watchdog import Watched
from sandbox.wire import ClosedError, FloodError

LAST_WORDS_S = 0.1  # what a dead kernel had already sent is read for this long
FLOOD_S = 0.5  # a kernel stops its flood by itself; if it has not by then, it is interrupted
INTERRUPTS = 2  # the first may be lost in a callback that ignores exceptions
FLOODED = "more messages than are read"


class Kernel:
    """A started kernel process and the conversation with it. One cell at a time.

    Once its process is gone, killed or dead by itself, it is of no further use.
    """

    def __init__(self, process: KernelProcess, limits: Limits) -> None:
        self._process = process
        self._limits = limits
        self._client = process.client
        self._talking = asyncio.Lock()
        self._stopped = ""
        self._used = False

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.alive()

    @property
    def watched(self) -> Watched:
        """What a watchdog looks at."""
        process = self._process
        return Watched(process.pid, process.folder, process.readable, process.group, self._used)

    @property
    def keeps_files(self) -> bool:
        """Whether its cells left anything in their working directory."""
        try:
            return any((self._process.folder / "work").iterdir())
        except OSError:
            return True

    async def wait_ready(self) -> None:
        """Wait until the kernel answers and we hear what it prints.

        Raises TimeoutError after `start_timeout_s` and RuntimeError when its process ends or it
        does not speak as a kernel does.
        """
        async with self._talking, asyncio.timeout(self._limits.start_timeout_s):
            ready = asyncio.ensure_future(self._greet())
            death = asyncio.ensure_future(self._died())
            try:
                await asyncio.wait({ready, death}, return_when=asyncio.FIRST_COMPLETED)
                if not ready.done():
                    raise RuntimeError("the kernel ended while it started")
                ready.result()
            except (FloodError, ClosedError) as error:
                raise RuntimeError(f"the kernel does not answer: {error or FLOODED}") from error
            finally:
                await _drop(ready, death)

    async def execute(self, code: str, timeout_s: float) -> ExecutionResult:
        """Run one cell; answers within `timeout_s` + the grace + 1 s, whatever the code does.

        When cancelled it kills the kernel.
        """
        if (refused := refusal(code, timeout_s, self._limits)) is not None:
            return refused
        async with self._talking:
            self._used = True
            loop = asyncio.get_running_loop()
            started = loop.time()
            output = Output(self._limits.accepted_bytes)
            full = loop.create_future()
            cell = asyncio.ensure_future(self._converse(code, output, full))
            death = asyncio.ensure_future(self._died())
            try:
                status = await self._watch(cell, death, full, started + timeout_s)
            except BaseException:
                self.kill()  # the code may be running still
                raise
            finally:
                full.cancel()
                await _drop(cell, death)
            if self._stopped:
                status = ExecutionStatus.KILLED
            if status is ExecutionStatus.DIED:
                self.kill()  # what it started, and whatever is left of it
            stdout, stderr = output.text("stdout"), output.text("stderr")
            shown = shares(stdout, stderr, self._limits.output_bytes)
            return ExecutionResult(
                status=status,
                stdout=shown[0],
                stderr=shown[1],
                duration_s=loop.time() - started,
                truncated=output.full or shown != (stdout, stderr),
                state_lost=not self.alive,
                error=output.error,
                timeout_s=timeout_s,
                stopped=self._stopped,
                output_bytes=min(output.bytes, self._limits.accepted_bytes),
            )

    def stop(self, reason: str) -> None:
        """Kill it for using too much; a cell that runs ends as killed, and says why."""
        self._stopped = self._stopped or reason
        self.kill()

    def kill(self) -> None:
        """Kill the process and all it started; returns at once."""
        self._process.kill()

    async def aclose(self) -> None:
        """Kill the process and free everything it held."""
        self.kill()
        async with self._talking:  # a cell that runs sees the death first
            await self._process.reap()

    async def _watch(
        self,
        cell: asyncio.Future[ExecutionStatus],
        death: asyncio.Future[None],
        full: asyncio.Future[None],
        deadline: float,
    ) -> ExecutionStatus:
        loop = asyncio.get_running_loop()

        async def wait(seconds: float, *others: asyncio.Future[None]) -> ExecutionStatus | None:
            events: set[asyncio.Future[Any]] = {cell, death, *others}
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait(events, timeout=max(0.0, seconds), return_when=first)
            if death.done() and not cell.done():
                await asyncio.wait({cell}, timeout=LAST_WORDS_S)
            if cell.done():
                return ExecutionStatus.DIED if cell.cancelled() else cell.result()
            return ExecutionStatus.DIED if death.done() else None

        if (ended := await wait(deadline - loop.time(), full)) is not None:
            return ended
        flooded = full.done()
        if flooded and (ended := await wait(FLOOD_S)) is not None:
            return ended
        for _ in range(INTERRUPTS):
            self._process.interrupt()
            if (ended := await wait(self._limits.grace_s / INTERRUPTS)) is not None:
                if flooded or ended is ExecutionStatus.DIED:
                    return ended
                return ExecutionStatus.TIMEOUT
        self.kill()
        return ExecutionStatus.KILLED

    async def _converse(
        self, code: str, output: Output, full: asyncio.Future[None]
    ) -> ExecutionStatus:
        """Send the code; done when its reply and its `idle` are both there (either can be forged)."""
        try:
            cell_id = self._client.ask(
                "execute_request",
                code=code,
                silent=False,
                store_history=True,
                user_expressions={},
                allow_stdin=False,
                stop_on_error=False,
            )
            reply, idle = await asyncio.gather(
                self._reply(cell_id), self._gather(cell_id, output, full)
            )
        except ClosedError:
            return ExecutionStatus.DIED
        except FloodError:
            self.stop(FLOODED)
            return ExecutionStatus.KILLED
        if reply is None or not idle:
            return ExecutionStatus.DIED
        if any(part.get("source") == "ask_exit" for part in _dicts(reply.get("payload"))):
            return ExecutionStatus.DIED  # it ends a moment later
        if reply.get("status") == "ok":
            return ExecutionStatus.OK
        name, value = reply.get("ename"), reply.get("evalue")
        if isinstance(name, str) and isinstance(value, str):
            output.add_error(name, f"{name}: {value}")
        return ExecutionStatus.ERROR

    async def _reply(self, cell_id: str) -> dict[str, Any] | None:
        """The reply's content; None where the kernel ended without one."""
        with contextlib.suppress(ClosedError):
            while True:
                kind, parent, content = await self._client.hear(self._client.shell)
                if kind == "execute_reply" and parent == cell_id:
                    return content
        return None

    async def _gather(self, cell_id: str, output: Output, full: asyncio.Future[None]) -> bool:
        """All that the cell put out; whether the kernel was idle then, and had not ended."""
        with contextlib.suppress(ClosedError):
            while True:
                kind, parent, content = await self._client.hear(self._client.iopub)
                if parent == cell_id:
                    if kind == "status" and content.get("execution_state") == "idle":
                        return True
                    output.add(kind, content)
                if output.full and not full.done():
                    full.set_result(None)
        return False

    async def _greet(self) -> None:
        """A reply alone does not mean that output is heard: that takes the welcome."""
        await self._client.open()
        while (await self._client.hear(self._client.iopub)).kind != "iopub_welcome":
            pass
        asked = self._client.ask("kernel_info_request")
        while (await self._client.hear(self._client.shell)).parent != asked:
            pass

    async def _died(self) -> None:
        while self.alive:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(POLL_S)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


async def _drop(*tasks: asyncio.Future[Any]) -> None:
    """Cancel the tasks and wait for them; how they ended is of no interest any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
