"""Opens a vLLM engine from the settings: starts its servers or attaches to them, and checks each."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from solver.adapter.fingerprint import read_config
from solver.adapter.folder import load_adapter
from solver.adapter.vllm.serving import server_flags
from solver.cli.extras import install
from solver.config import ModelConfig, SolverConfig
from solver.engines.vllm.attached import Attached, server_url
from solver.engines.vllm.command import PROGRAM, Recipe
from solver.engines.vllm.engine import VllmEngine
from solver.engines.vllm.handshake import Expected
from solver.engines.vllm.hosts import Host, Say
from solver.engines.vllm.supervised import Supervised
from solver.engines.vllm.verified import VerifiedHost
from solver.errors import ConfigError, ModelError

_LOG = "vllm.log"
_UNKNOWN = "unknown"  # dtype of an attached server


async def open_vllm(
    config: SolverConfig,
    model_folder: Path,
    adapter: Path | None,
    *,
    candidates: bool,
    log_folder: Path | None,
    say: Say,
    on_incident: Say,
) -> VllmEngine:
    """An engine on the configured servers, or on one that is started here and ends with the engine.

    `adapter` is the STOP adapter that the servers must have, if any; `candidates` asks them for the
    best ids of each draw too. A server that is started writes its log to `vllm.log` in `log_folder`, or
    in a temporary folder, which is kept. Raises `ConfigError` or `ModelError` with one line that says
    what to change, and `EngineError` if a server is lost at its first requests.
    """
    expected = _expected(config, model_folder, adapter)
    hosts, dtype = _hosts(config, model_folder, expected, log_folder, say, on_incident)
    expected = replace(expected, dtype=dtype)
    verified = [VerifiedHost(host, expected, say) for host in hosts]
    async with AsyncExitStack() as stack:
        for host in verified:
            stack.push_async_callback(host.aclose)
        await _start(verified)
        engine = await VllmEngine.open(
            verified,
            model_name=model_folder.name,
            context_length=min(host.facts.context_length for host in verified),
            vocab_size=expected.vocab_size,
            dtype=dtype,
            config=config.vllm,
            candidates=candidates,
            stop_token_ids=expected.spec.stop_token_ids if expected.spec else None,
            handshake=expected.spec.handshake if expected.spec else None,
            on_incident=on_incident,
        )
        stack.pop_all()
        return engine


async def _start(hosts: Sequence[VerifiedHost]) -> None:
    """Start all at the same time; the first failure ends the other starts."""
    try:
        async with asyncio.TaskGroup() as group:
            for host in hosts:
                group.create_task(host.start())
    except BaseExceptionGroup as failures:
        raise _first(failures) from None


def _expected(config: SolverConfig, model_folder: Path, adapter: Path | None) -> Expected:
    settings = read_config(model_folder)
    text = settings.get("text_config", settings)  # a multimodal model has a part for text
    if not isinstance(size := text.get("vocab_size"), int):
        raise ModelError(f"{model_folder}/config.json has no vocab_size")
    expected = Expected(
        vocab_size=size,
        limit_s=config.vllm.start_limit_s,
        dtype=_UNKNOWN,
        context_length=config.model.context_length,
    )
    if adapter is None:
        return expected
    adapter = adapter.resolve()
    loaded = load_adapter(
        adapter,
        model_folder,
        marks=[check.mark for check in config.prune.checks],
        dialect=config.model.dialect,
        prompt=config.model.prompt,
    )
    flags = server_flags(adapter, model_folder)
    return replace(expected, adapter=adapter, spec=loaded.spec, stop_flags=tuple(flags))


def _hosts(
    config: SolverConfig,
    model_folder: Path,
    expected: Expected,
    log_folder: Path | None,
    say: Say,
    on_incident: Say,
) -> tuple[list[Host], str]:
    """The servers to start or to attach to, and the dtype that they compute in."""
    urls = [server_url(given) for given in config.vllm.servers]
    if len({*urls}) < len(urls):
        raise ConfigError("the same --server is given twice: give each only once")
    if urls:
        attached: list[Host] = [
            Attached(url, config.vllm, say=say, on_incident=on_incident) for url in urls
        ]
        return attached, _UNKNOWN
    recipe = Recipe(
        model_folder.absolute(),
        config.model,
        config.vllm,
        settings=read_config(model_folder),
        on_cpu=_on_cpu(config.model),
        environment=dict(os.environ),
        stop_flags=expected.stop_flags,
        program=PROGRAM,
    )
    if find_spec("vllm") is None:
        raise ModelError(
            f"vLLM is not installed here: {install('vllm')} on a GPU machine, use the "
            "environment of make test-vllm, or name one that runs in vllm.servers"
        )
    folder = log_folder or Path(tempfile.mkdtemp(prefix="stop-solver-vllm-"))
    return [Supervised(recipe, folder / _LOG, say=say, on_incident=on_incident)], recipe.dtype


def _on_cpu(model: ModelConfig) -> bool:
    """Whether a server here computes on the CPU. Raises `ModelError` for a device that is not there."""
    import torch

    kind, numbered, index = model.device.partition(":")
    found = torch.cuda.device_count()
    if kind not in ("auto", "cpu", "cuda") or (numbered and not index.isdecimal()):
        raise ModelError(f"unknown device {model.device!r}: use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= found:
        raise ModelError(f"device {model.device} is not available ({found} CUDA devices): use cpu")
    return kind == "cpu" or found == 0


def _first(failure: BaseException) -> BaseException:
    return _first(failure.exceptions[0]) if isinstance(failure, BaseExceptionGroup) else failure
