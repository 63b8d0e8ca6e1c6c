"""A server of our own: its start, its ends, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from solver.engines.vllm import supervised as module
from solver.engines.vllm.client import Client
from solver.engines.vllm.command import Recipe
from solver.engines.vllm.process import ServerProcess, free_port
from solver.engines.vllm.supervised import Supervised, back_off
from solver.errors import EngineError, ModelError
from tests.engines.vllm_hosts import fake_process
from tests.engines.vllm_hosts.conftest import (
    Told,
    flags,
    num_starts,
    pids,
    runs,
    says,
    until,
)
from tests.engines.vllm_hosts.fake_process import Play
from tests.support.fake_vllm import InThread

Make = Callable[..., Supervised]


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Restarts follow at once; what they would have waited is noted."""
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0.02)

    class Asyncio:
        sleep = staticmethod(note)

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

    monkeypatch.setattr(module, "asyncio", Asyncio())
    return waits


async def healthy(host: Supervised) -> bool:
    client = Client(host.url)
    try:
        return await client.healthy(5.0)
    finally:
        await client.aclose()


async def test_a_started_server_answers_on_loopback_and_is_gone_when_closed(
    supervised: Make, tmp_path: Path
) -> None:
    host = supervised(Play(family=True))
    await host.start()
    assert host.url.startswith("http://127.0.0.1:")
    assert await healthy(host)
    family = pids(tmp_path)
    assert len(family) == 3 and all(runs(pid) for pid in family)
    await host.aclose()
    assert not any(runs(pid) for pid in family)
    assert "Resolved architecture" in (tmp_path / "vllm.log").read_text()


async def test_who_ignores_sigterm_is_killed(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = recipe(Play(ignores_sigterm=True, family=True))
    command = made.command(free_port(), "x", made.memory)
    process = await ServerProcess.start(command, tmp_path / "log", grace_s=0.5)
    await until(lambda: says(tmp_path / "log", "Started"))
    await process.terminate()
    assert process.exit_code == 128 + signal.SIGKILL
    assert not any(runs(pid) for pid in pids(tmp_path))


async def test_a_slow_start_says_how_far_it_is(supervised: Make, told: Told) -> None:
    host = supervised(Play(loading_s=0.6), progress_s=0.01)
    await host.start()
    assert any(line.endswith("Resolved architecture: LlamaForCausalLM") for line in told.said)
    assert told.said[0].startswith("vLLM starts, ")


async def test_a_start_has_a_limit_and_leaves_nothing(supervised: Make, tmp_path: Path) -> None:
    host = supervised(Play(hangs=True, family=True), start_limit_s=3.0)
    with pytest.raises(ModelError, match=r"within 3 s: set vllm.start_limit_s higher") as caught:
        await host.start()
    assert str(tmp_path / "vllm.log") in str(caught.value)
    assert not any(runs(pid) for pid in pids(tmp_path))


async def test_a_cancelled_start_leaves_nothing(supervised: Make, tmp_path: Path) -> None:
    host = supervised(Play(hangs=True, family=True))
    start = asyncio.create_task(host.start())
    await until(lambda: says(tmp_path / "vllm.log", "Resolved") and len(pids(tmp_path)) == 3)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not any(runs(pid) for pid in pids(tmp_path))


async def test_a_failed_start_tells_the_cause_and_shows_the_log(
    supervised: Make, tmp_path: Path, told: Told
) -> None:
    host = supervised(Play(dies_with="ValueError: no such architecture", family=True))
    with pytest.raises(ModelError) as caught:
        await host.start()
    assert str(caught.value) == (
        "the vLLM server ended (exit code 1): ValueError: no such architecture; "
        f"its log is {tmp_path / 'vllm.log'}"
    )
    [note] = caught.value.__notes__
    assert note.splitlines()[-3:] == [
        "Traceback (most recent call last):",
        "ValueError: no such architecture",
        fake_process.SUMMED_UP,
    ]
    assert not told.incidents
    assert not any(runs(pid) for pid in pids(tmp_path))


async def test_a_port_that_was_taken_meanwhile_is_exchanged(
    supervised: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = module.free_port
        offers = iter([port])
        monkeypatch.setattr(module, "free_port", lambda wanted: next(offers, None) or free(wanted))
        monkeypatch.setattr(module, "_PROBE_S", 0.1)  # the one who took it does not answer
        host = supervised(Play())
        await host.start()
        assert await healthy(host)
        assert flags(tmp_path, 1)[3] == str(port) != flags(tmp_path, 2)[3]


async def test_a_stranger_who_answers_on_the_port_is_not_taken_for_the_server(
    supervised: Make,
    monkeypatch: pytest.MonkeyPatch,
    in_thread: Callable[..., InThread],
    tmp_path: Path,
) -> None:
    stranger = in_thread()
    port = stranger.server.port
    free, offers = module.free_port, iter([port])
    monkeypatch.setattr(module, "free_port", lambda wanted: next(offers, None) or free(wanted))
    host = supervised(Play())
    await host.start()
    assert host.url != stranger.url
    assert await healthy(host)


async def test_what_does_not_fit_is_tried_once_with_less(
    supervised: Make, tmp_path: Path, told: Told
) -> None:
    host = supervised(Play(dies_with=fake_process.NO_CACHE, dies_over_seqs=32))
    await host.start()
    assert fake_process.value(flags(tmp_path, 1), "--max-num-seqs") == "64"
    assert fake_process.value(flags(tmp_path, 2), "--max-num-seqs") == "32"
    assert fake_process.value(flags(tmp_path, 2), "--max-model-len") == "256"
    [incident] = told.incidents
    assert incident.endswith("max_num_seqs 32 (was 64), max_model_len 256 (was the longest)")
    assert "gpu_memory_utilization" not in incident.partition("started again")[2]


async def test_and_only_once(supervised: Make, tmp_path: Path, told: Told) -> None:
    host = supervised(Play(dies_with=fake_process.DEVICE_FULL))
    with pytest.raises(ModelError, match="CUDA out of memory"):
        await host.start()
    assert num_starts(tmp_path) == 2
    assert len(told.incidents) == 1


async def test_a_restart_keeps_what_fitted(supervised: Make, tmp_path: Path) -> None:
    host = supervised(Play(dies_with=fake_process.DEVICE_FULL, dies_over_seqs=32))
    await host.start()
    await host.recover()
    assert fake_process.value(flags(tmp_path, 3), "--max-num-seqs") == "32"


async def test_settings_that_the_user_fixed_are_not_tried_again(
    supervised: Make, tmp_path: Path, told: Told
) -> None:
    host = supervised(
        Play(dies_with=fake_process.DEVICE_FULL), args=("--max-num-seqs", "64"), max_num_seqs=1
    )
    with pytest.raises(ModelError):
        await host.start()
    assert num_starts(tmp_path) == 1 and not told.incidents


async def test_a_lost_server_comes_back_on_its_port(
    supervised: Make, told: Told, tmp_path: Path, no_wait: list[float]
) -> None:
    host = supervised(Play(family=True))
    await host.start()
    url, family = host.url, pids(tmp_path)
    os.kill(family[0], signal.SIGKILL)
    await until(lambda: not any(runs(pid) for pid in family))  # without anybody asking for it
    await host.recover()
    assert host.url == url and await healthy(host)
    assert not any(runs(pid) for pid in family)
    assert (
        told.incidents
        == ["the vLLM server ended (signal 9): Started server; restart 1 of 5 in 0.5 s"]
        or "restart 1 of 5" in told.incidents[0]
    )


async def test_a_hung_server_is_killed_and_comes_back(supervised: Make, tmp_path: Path) -> None:
    host = supervised(Play())
    await host.start()
    [first] = pids(tmp_path)
    os.kill(first, signal.SIGSTOP)
    await host.recover()
    assert await healthy(host)
    assert not runs(first)


async def test_a_server_that_keeps_failing_is_given_up_with_growing_waits(
    supervised: Make, told: Told, no_wait: list[float]
) -> None:
    host = supervised(Play(dies_with="RuntimeError: driver is gone"), max_restarts=3)
    with pytest.raises(EngineError, match=r"driver is gone.*given up after 3 restarts in a row"):
        await host.recover()
    assert [wait for wait in no_wait if wait in (0.5, 1.0, 2.0)] == [0.5, 1.0, 2.0]


async def test_a_token_makes_the_next_failure_the_first_one(supervised: Make, told: Told) -> None:
    host = supervised(Play(), max_restarts=1)
    await host.start()
    await host.recover()
    host.reset_failures()
    await host.recover()
    with pytest.raises(EngineError, match="given up after 1 restarts"):
        await host.recover()


def test_back_off_doubles_up_to_half_a_minute() -> None:
    assert [back_off(n) for n in (1, 2, 3, 7, 99)] == [0.5, 1.0, 2.0, 30.0, 30.0]


_OWNER = """
import asyncio, os, sys
from pathlib import Path
from solver.engines.vllm.command import Command
from solver.engines.vllm.process import ServerProcess

async def main():
    command = Command((sys.executable, "-I", sys.argv[2], "--port", "0"), dict(os.environ))
    await ServerProcess.start(command, Path(sys.argv[1]))
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("also_the_watcher", [False, True])
async def test_nothing_is_left_when_the_solver_is_killed(
    recipe: Callable[..., Recipe], tmp_path: Path, also_the_watcher: bool
) -> None:
    # Without a watcher only the server itself dies at once: its family is its own to end.
    environment = dict(recipe(Play(family=not also_the_watcher)).environment)
    log = tmp_path / "log"
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _OWNER, str(log), fake_process.__file__), env=environment
    )
    try:
        await until(lambda: says(log, "Started") or owner.returncode is not None)
        below = psutil.Process(owner.pid).children(recursive=True)
        assert {*pids(tmp_path)} < {process.pid for process in below}
        if also_the_watcher:
            psutil.Process(owner.pid).children()[0].kill()
    finally:
        owner.kill()
        await owner.wait()
    await until(lambda: not any(runs(process.pid) for process in below))


async def test_a_watcher_that_was_killed_leaves_no_group(supervised: Make, tmp_path: Path) -> None:
    host = supervised(Play(family=True))
    await host.start()
    server, child, orphan = pids(tmp_path)
    watcher = psutil.Process(server).ppid()
    for pid in (watcher, server, orphan):
        os.kill(pid, signal.SIGKILL)
    await host.recover()
    assert await healthy(host)
    assert not runs(server) and not runs(child)
