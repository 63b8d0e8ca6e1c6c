"""Our kernels against plain jupyter-client: python -m benchmarks.sandbox [--quick] [--without-floods]

Both sides in one run, turn by turn, on the same machine; a kernel counts as started when it has
imported numpy, sympy and mpmath. The plain side starts its kernels all at once, as a program would
that uses `AsyncKernelManager` directly; ours has every layer of isolation on that this machine has.
The zygote is warm before the starts are timed, and its warm-up is its own line. At last a kernel floods
the solver beside a neighbour. This file also measures an earlier `sandbox`, put in place of its own copy
there: --without-floods, if nothing bounds them in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

from sandbox.isolation import isolation
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.ports import Sandbox

IMPORTS = "import numpy, sympy, mpmath"
WORK = "sum(sympy.factorint(10**12 + n).__len__() for n in range(20))"
TRAJECTORIES, CALLS = 24, 10
RAW = "s = get_ipython().kernel.iopub_thread.socket\n"
FLOODS = {
    "messages of 500,000 parts": "while True: s.send_multipart([b''] * 500_000)",
    "messages of eight parts of 8 MB": "while True: s.send_multipart([b'x' * (8 << 20)] * 8)",
    "messages of 1 MB": "while True: s.send(b'x' * 10**6)",
    "empty messages": "while True: s.send(b'')",
    "forged errors": """
import json
parent = {'msg_id': get_ipython().kernel.get_parent()['header']['msg_id']}
error = {'ename': '', 'traceback': ['x']}
parts = [b'<IDS|MSG>', b'', json.dumps({'msg_type': 'error'}).encode(),
         json.dumps(parent).encode(), b'{}', json.dumps(error).encode()]
while True: s.send_multipart(parts)""",
}


class Plain:
    """A kernel as jupyter-client starts it."""

    def __init__(self) -> None:
        self.manager = AsyncKernelManager()
        self.client: AsyncKernelClient

    async def start(self) -> Plain:
        await self.manager.start_kernel(stdout=DEVNULL, stderr=DEVNULL)
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=120)
        await self.run(IMPORTS)
        return self

    async def run(self, code: str) -> None:
        """Send a cell and wait for its reply and its idle."""
        cell = self.client.execute(code)
        while (await self.client.get_shell_msg())["parent_header"].get("msg_id") != cell:
            pass
        while True:
            message = await self.client.get_iopub_msg()
            ended = message["content"].get("execution_state") == "idle"
            if ended and message["parent_header"].get("msg_id") == cell:
                return

    async def restart(self) -> None:
        await self.manager.restart_kernel(now=True)
        await self.client.wait_for_ready(timeout=120)
        await self.run(IMPORTS)

    async def stop(self) -> None:
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)


@contextlib.asynccontextmanager
async def plain_kernels(count: int) -> AsyncIterator[list[Plain]]:
    kernels = await asyncio.gather(*(Plain().start() for _ in range(count)))
    try:
        yield kernels
    finally:
        await asyncio.gather(*(kernel.stop() for kernel in kernels))


@contextlib.asynccontextmanager
async def our_kernels(pool: KernelPool, count: int) -> AsyncIterator[list[Sandbox]]:
    async with contextlib.AsyncExitStack() as stack:
        leases = [await stack.enter_async_context(pool.lease()) for _ in range(count)]
        results = await asyncio.gather(*(lease.execute(IMPORTS, 120) for lease in leases))
        assert all(result.status == "ok" for result in results), results
        yield leases


def pss(pids: list[int]) -> float:
    """MB that the processes hold, shared pages counted once."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1000


async def started(pool: KernelPool, count: int, repeats: int) -> tuple[float, float]:
    plain, ours = [], []
    for _ in range(repeats):
        before = time.perf_counter()
        async with plain_kernels(count):
            plain.append(time.perf_counter() - before)
        before = time.perf_counter()
        async with our_kernels(pool, count):
            ours.append(time.perf_counter() - before)
        await settled(pool)
    return statistics.median(plain), statistics.median(ours)


async def replaced(pool: KernelPool, repeats: int) -> tuple[float, float]:
    """Seconds from a kernel's crash to the next answer, without spare kernels."""
    plain, ours = [], []
    async with plain_kernels(1) as (old,), our_kernels(pool, 1) as (lease,):
        for _ in range(repeats):
            before = time.perf_counter()
            await old.restart()
            plain.append(time.perf_counter() - before)
            assert (await lease.execute("import os; os._exit(1)", 30)).state_lost
            before = time.perf_counter()
            assert (await lease.execute(IMPORTS, 30)).status == "ok"
            ours.append(time.perf_counter() - before)
    return statistics.median(plain), statistics.median(ours)


async def round_trips(pool: KernelPool, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of empty cells."""
    plain, ours = [], []
    async with plain_kernels(1) as (old,), our_kernels(pool, 1) as (lease,):
        for _ in range(count):
            before = time.perf_counter()
            await old.run("")
            between = time.perf_counter()
            await lease.execute("", 30)
            after = time.perf_counter()
            plain.append((between - before) * 1000)
            ours.append((after - between) * 1000)
    return sorted(plain[10:]), sorted(ours[10:])


async def memory(pool: KernelPool, count: int) -> tuple[float, float]:
    async with plain_kernels(count) as kernels:
        provisioners: list[Any] = [kernel.manager.provisioner for kernel in kernels]
        plain = pss([provisioner.pid for provisioner in provisioners])
    async with our_kernels(pool, count):
        zygote = pool._launcher._zygote.pid  # type: ignore[union-attr]
        ours = pss([zygote, *(kernel.watched.pid for kernel in pool._kernels)])
    await settled(pool)
    return plain, ours


async def trajectories(pool: KernelPool) -> tuple[float, float]:
    """Cells a second, starts included."""

    async def old() -> None:
        async with plain_kernels(1) as (kernel,):
            for _ in range(CALLS):
                await kernel.run(WORK)

    async def new() -> None:
        async with our_kernels(pool, 1) as (lease,):
            for _ in range(CALLS):
                assert (await lease.execute(WORK, 60)).status == "ok"

    rates = []
    for one in (old, new):
        before = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(TRAJECTORIES)))
        rates.append(TRAJECTORIES * CALLS / (time.perf_counter() - before))
    await settled(pool)
    return rates[0], rates[1]


def resident(name: str) -> float:
    """MB of this process that /proc names so."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1000


def reset_peak() -> None:
    """VmHWM is the peak from here on."""
    Path("/proc/self/clear_refs").write_text("5")


async def beside_a_flood(pool: KernelPool, flood: str) -> tuple[float, float, float]:
    """Seconds of the slowest empty cell of a neighbour, alone and during the flood; MB that we grow."""
    async with our_kernels(pool, 2) as (neighbour, hostile):

        async def slowest(cells: int) -> float:
            times = []
            for _ in range(cells):
                before = time.perf_counter()
                assert (await neighbour.execute("", 30)).status == "ok"
                times.append(time.perf_counter() - before)
                await asyncio.sleep(0.01)
            return max(times)

        alone = await slowest(50)
        reset_peak()
        before = resident("VmRSS")
        during = 0.0
        for _ in range(3):  # it is replaced, and floods again
            attack = asyncio.ensure_future(hostile.execute(flood, 5))
            while not attack.done():
                during = max(during, await slowest(5))
            assert (await attack).state_lost
        return alone, during, resident("VmHWM") - before


async def floods(pool: KernelPool) -> None:
    print(
        "\n| a neighbour floods by | empty cell, slowest | then | target | solver grows | target |"
    )
    print("|---|---|---|---|---|---|")
    for what, code in FLOODS.items():
        alone, during, grown = await beside_a_flood(pool, RAW + code)
        figures = f"{alone:.3f} s | {during:.3f} s | < 0.5 s | {grown:.0f} MB | < 64 MB"
        print(f"| {what} | {figures} |", flush=True)


async def settled(pool: KernelPool) -> None:
    while pool._ends or pool._starts:
        await asyncio.gather(*pool._ends, *pool._starts)


def row(what: str, plain: float, ours: float, unit: str, target: str, *, ratio: float) -> None:
    print(
        f"| {what} | {plain:.4g} {unit} | {ours:.4g} {unit} | {ratio:.2f} | {target} |", flush=True
    )


async def main(quick: bool, flooding: bool) -> None:
    repeats, cells = (1, 60) if quick else (3, 500)
    print(f"isolation: {isolation()}\n")
    print("| | jupyter-client | ours | ratio | target |\n|---|---|---|---|---|")
    async with KernelPool(Limits(spares=0, start_concurrency=4)) as pool:
        before = time.perf_counter()
        async with our_kernels(pool, 1):
            warm = time.perf_counter() - before
        for count in (1, 4) if quick else (1, 16, 24, 32):
            plain, ours = await started(pool, count, 1 if count > 16 else repeats)
            target = ">= 8" if count == 16 else ""
            row(f"start {count}", plain, ours, "s", target, ratio=plain / ours)
        plain, ours = await replaced(pool, repeats)
        row("replace one", plain, ours, "s", ">= 5", ratio=plain / ours)
        old, new = await round_trips(pool, cells)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            plain, ours = old[int(len(old) * share)], new[int(len(new) * share)]
            row(f"empty cell, {name}", plain, ours, "ms", "<= 1.2", ratio=ours / plain)
        count = 4 if quick else 32
        plain, ours = await memory(pool, count)
        row(f"PSS of {count} idle kernels", plain, ours, "MB", "<= 0.4", ratio=ours / plain)
        plain, ours = await trajectories(pool)
        what = f"{TRAJECTORIES} trajectories of {CALLS} cells"
        row(what, plain, ours, "cells/s", "", ratio=ours / plain)
        if flooding:
            await floods(pool)
    print(f"\nfirst kernel of a pool, the zygote's warm-up included: {warm:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer kernels and repeats")
    parser.add_argument("--without-floods", action="store_true", help="nothing hostile")
    options = parser.parse_args()
    asyncio.run(main(options.quick, not options.without_floods))
