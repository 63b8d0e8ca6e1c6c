"""Ray: a cluster that is there or one of this machine's own, and workers as its actors.

Ray is told to start as little as it can: no dashboard, no metrics, no usage report. Its retries of single
calls are not used: the driver knows what begins again, for it has seen what of it was recorded.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from solver.clock import MonotonicClock
from solver.config import SolverConfig
from solver.distributed.crew import Crew
from solver.distributed.hands import LOCAL, Hands
from solver.distributed.node import installation
from solver.distributed.tasks import Batch, Task
from solver.distributed.worker import ActorLost, Hello, Worker
from solver.errors import ConfigError, ModelError, first_line

_OBJECT_STORE = 200 << 20  # bytes; what is sent is small
_END_S = 10.0  # an actor that does not close by itself until then is killed
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # pages about a lost process on stdout: the crew says it in a line
}
# What Ray does where it knows no clusters of several machines: all its servers listen to loopback only.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_REACH_S = 10.0  # a machine that does not answer within is not there


@asynccontextmanager
async def crew(
    config: SolverConfig, hands: Hands, say: Callable[[str], None]
) -> AsyncIterator[tuple[Crew, Hello]]:
    """Actors on a cluster, and what the first of them said that is open; all are ended with the block.

    Raises `ConfigError` for a cluster that cannot be reached or has no place for an actor, `ModelError` if
    every node is unfit.
    """
    if config.vllm.servers:
        raise ConfigError("a run uses several vLLM servers by itself: leave out --server or --ray")
    expected = await asyncio.to_thread(installation, config)
    # Ray reads them when it is imported, and its processes inherit them.
    settings = _SETTINGS | (_LOOPBACK if hands.address == LOCAL else {})
    os.environ.update({name: os.environ.get(name, value) for name, value in settings.items()})
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:
        ray = await asyncio.to_thread(_connect, config, hands, temporary)
        try:
            num, options = _places(ray, config, hands)
            remote = ray.remote(Worker).options(**options)
            actors = [RayActor(ray, remote.remote(config, expected)) for _ in range(num)]
            opened = Crew(actors, say, MonotonicClock().now)
            try:
                yield opened, await _first(opened)
            finally:
                await opened.close()
        finally:
            await asyncio.to_thread(ray.shutdown)


async def _first(crew: Crew) -> Hello:
    try:
        return await crew.first()
    except ActorLost as error:
        raise ModelError(str(error)) from None


def _connect(config: SolverConfig, hands: Hands, temporary: str) -> Any:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if hands.address != LOCAL:
        try:
            _reach(hands.address)
            ray.init(address=hands.address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise ConfigError(f"no Ray cluster at {hands.address}: {reason}") from None
        return ray
    wanted = (hands.actors or 1) * _cores(config)
    try:
        ray.init(
            address=LOCAL,
            num_cpus=max(wanted, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            _temp_dir=temporary,
            **quiet,
        )
    except Exception as error:  # Ray raises nothing more special
        raise ConfigError(f"Ray cannot be started here: {_reason(error)}") from error
    return ray


def _reach(address: str) -> None:
    """Raise `OSError` if nothing listens at HOST:PORT, for which Ray itself looks for minutes."""
    place = urlsplit(f"//{address}")  # reads [::1]:6379 as well
    if place.port is not None:
        socket.create_connection((place.hostname, place.port), timeout=_REACH_S).close()


def _cores(config: SolverConfig) -> int:
    """What an actor takes: as many cores as the engine has threads."""
    return config.model.threads or 1


def _places(ray: Any, config: SolverConfig, hands: Hands) -> tuple[int, dict[str, Any]]:
    """How many actors are started, and what each of them is promised by Ray."""
    there = ray.cluster_resources()
    cores, gpus = _cores(config), hands.gpus
    if gpus is None:
        gpus = 1 if there.get("GPU", 0) and config.model.device != "cpu" else 0
    fit = int(there.get("CPU", 0) // cores)
    if gpus:
        fit = min(fit, int(there.get("GPU", 0) / gpus))
    num = hands.actors or fit
    if num < 1 or num > fit:
        raise ConfigError(
            f"the cluster has {there.get('CPU', 0):g} cores and {there.get('GPU', 0):g} GPUs: {fit} actors"
            f" of {cores} cores and {gpus:g} GPUs fit; see --actors, --gpus-per-actor and model.threads"
        )
    return num, {
        "num_cpus": cores,
        "num_gpus": gpus,
        "scheduling_strategy": "SPREAD",
        "max_restarts": -1,  # the crew counts
        "max_concurrency": 1000,  # it is async: a stop must come through while it works
    }


class RayActor:
    """A worker as an actor of Ray; implements `solver.distributed.crew.Actor`."""

    def __init__(self, ray: Any, handle: Any) -> None:
        self._ray = ray
        self._handle = handle

    async def open(self) -> Hello:
        """Wait until it is open, through a restart if it is in one. Raises `ActorLost`."""
        # Opening again does no harm, so Ray may wait for the restart and call once more.
        call = self._handle.open.options(max_task_retries=-1)
        hello: Hello = await self._answer(call.remote())
        return hello

    async def serve(self, task: Task[Any]) -> AsyncGenerator[Batch, None]:
        """What it says of a task. Raises `ActorLost`, or what the task raised."""
        stream = self._handle.serve.remote(task)
        ended = False
        try:
            async for reference in stream:
                yield await self._answer(reference)
            ended = True
        except self._ray.exceptions.RayActorError as error:
            ended = True
            raise self._lost(error) from None
        except ActorLost:
            ended = True
            raise
        finally:
            if not ended:  # nobody waits for it any more
                self._ray.cancel(stream)

    async def stop(self) -> None:
        """Have its tasks vote on what is there. Raises `ActorLost`."""
        await self._answer(self._handle.stop.remote())

    async def end(self) -> None:
        """Let it close its kernels and engine, for a few seconds, and kill it."""
        try:
            async with asyncio.timeout(_END_S):
                await self._answer(self._handle.aclose.remote())
        except (ActorLost, TimeoutError):
            pass
        finally:
            self._ray.kill(self._handle)

    async def _answer(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return await reference
        except errors.RayActorError as error:
            raise self._lost(error) from None
        except errors.RayTaskError as error:
            raise error.cause from None

    def _lost(self, error: Exception) -> ActorLost:
        if isinstance(error, self._ray.exceptions.ActorDiedError):
            return ActorLost(_reason(error), for_good=True)
        return ActorLost("its process or its node ended")


def _reason(error: Exception) -> str:
    """One line of what Ray says: where it shows a traceback, that one's last, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    place = -1 if any(line.startswith("Traceback") or "ray::" in line for line in lines) else 0
    return lines[place][:160] if lines else type(error).__name__
