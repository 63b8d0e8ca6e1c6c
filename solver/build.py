"""The one place that builds engine, dialect, kernels and scorer from a config."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.isolation import IsolationError
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from solver.clock import MonotonicClock
from solver.config import SolverConfig
from solver.dialects.base import Dialect
from solver.embedded.judge import prompt_judge
from solver.embedded.paths import EMBEDDED, model_folder
from solver.errors import ConfigError, ModelError, UserError, first_line
from solver.files.gguf import is_gguf
from solver.journal.events import EngineIncident, Event
from solver.policy.weights import BY_CANDIDATES
from solver.ports import Engine, Relieved
from solver.scorers import Need, ScorerContext, find_scorer
from solver.scorers.folders import adapter_folder
from solver.scorers.last_check import open_last_check_of_run
from solver.scorers.opening import open_recorded_scorers, open_scorer, promise_of
from solver.solving.pressure import Pressure
from solver.solving.recording import recording_of
from solver.solving.services import Services

if TYPE_CHECKING:
    from solver.engines.transformers import TransformersEngine
    from solver.engines.vllm.engine import VllmEngine


_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


@asynccontextmanager
async def services(
    config: SolverConfig,
    *,
    record: Callable[[Event], None],
    started_at: float,
    stopping: asyncio.Event,
    say: Callable[[str], None] = lambda _: None,
    on_sampled: Callable[[int], None] = lambda _: None,
    log_folder: Path | None = None,
) -> AsyncIterator[Services]:
    """Load the model or start its server, start the kernel pool, and close all at the end.

    `say` is told how a long start gets on, `on_sampled` how many tokens each chunk has; `log_folder`
    takes the log of a server (default: a temporary folder). Raises `ModelError` for a
    model that cannot be used, `ConfigError` where a layer of isolation is missing that the config requires.
    """
    clock = MonotonicClock()
    incidents: list[str] = []
    is_open = False

    def on_incident(what: str) -> None:
        if not is_open:  # nothing was lost, and the journal has not begun
            return say(what)
        incidents.append(what)
        return record(EngineIncident(t=clock.now() - started_at, what=what))

    async with _kernels(config.sandbox) as sandboxes:
        # Spares start in their own processes while this one loads, in a thread: the loop goes on.
        folder = model_folder(config.model.path)
        with _collector_paused():
            dialect = await asyncio.to_thread(open_dialect, config, folder)
            opened = await _open_engine(config, folder, log_folder, say, on_incident)
        async with aclosing(opened) as engine, AsyncExitStack() as closing:
            marks = tuple(check.mark for check in config.prune.checks)
            context = ScorerContext(config, engine, dialect, folder, marks, closing)
            scorer = await open_scorer(context)
            recorded = await open_recorded_scorers(context, scorer)
            last_check = await open_last_check_of_run(context)
            pressure = Pressure()
            if isinstance(engine, Relieved):
                engine.ask_when_full(pressure.relieve)
            is_open = True
            yield Services(
                config=config,
                engine=engine,
                dialect=dialect,
                sandboxes=sandboxes,
                scorer=scorer,
                selection=find_scorer(config.prune.scorer).selection,
                recording=recording_of(config, recorded),
                last_check=last_check,
                clock=clock,
                record=record,
                started_at=started_at,
                concern=_concern(config, engine),
                on_sampled=on_sampled,
                incidents=incidents,
                stopping=stopping,
                pressure=pressure,
                promise=promise_of(config.prune.scorer),
            )


@contextmanager
def _collector_paused() -> Iterator[None]:
    """What torch and a model's classes are made of stays: to search it for garbage slows their import."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def _open_engine(
    config: SolverConfig,
    folder: Path,
    log_folder: Path | None,
    say: Callable[[str], None],
    on_incident: Callable[[str], None],
) -> TransformersEngine | VllmEngine:
    if config.model.engine == "vllm" and is_gguf(folder):
        raise ConfigError(f"{folder} runs in process: take a model folder for model.engine=vllm")
    if config.model.engine == "vllm":
        from solver.engines.vllm.open import open_vllm

        needs = find_scorer(config.prune.scorer).needs
        adapter = adapter_folder(config) if Need.ADAPTER in needs else None
        return await open_vllm(
            config,
            folder,
            adapter,
            candidates=Need.CANDIDATES in needs
            or config.vote.rule in BY_CANDIDATES
            or config.record == "full",
            log_folder=log_folder,
            say=say,
            on_incident=on_incident,
        )
    from solver.engines.transformers import load

    model = config.model.model_copy(update={"path": str(folder)})
    engine = await asyncio.to_thread(load, model)
    if model.dtype == "auto" and engine.capabilities.dtype == "int8":
        say("linear layers run in 8 bits on this CPU; --set model.dtype=float32 for full precision")
    return engine


@asynccontextmanager
async def _kernels(limits: Limits) -> AsyncIterator[KernelPool]:
    try:
        async with KernelPool(limits) as pool:
            yield pool
    except IsolationError as error:
        raise ConfigError(str(error)) from error


def open_dialect(config: SolverConfig, folder: Path) -> Dialect:
    """The conversation format of the model in a folder or GGUF file, with the limits of the kernels.

    Raises `ModelError` or `ConfigError`.
    """
    if config.model.dialect == "harmony":
        from solver.dialects.harmony import HarmonyDialect

        return HarmonyDialect.open(
            config.harmony, config.model.prompt, config.sandbox, search=[folder]
        )
    return _fenced(folder, config.model.prompt, config.sandbox)


def _fenced(folder: Path, prompt: str, limits: Limits) -> Dialect:
    from solver.dialects.fenced import FencedDialect
    from solver.engines.tokenizer import generation_stop_ids, load_tokenizer

    if not folder.exists():
        raise ModelError(f"model folder {folder} does not exist: give the path of a local folder")
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelError(
            f"no tokenizer in {folder}: copy tokenizer.json and tokenizer_config.json there"
        )
    try:
        tokenizer = load_tokenizer(folder)
        if not tokenizer.chat_template:
            raise ModelError(
                f"the tokenizer in {folder} has no chat template; use an instruction model"
            )
        return FencedDialect(tokenizer, prompt, limits, generation_stop_ids(folder))
    except UserError:
        raise
    except Exception as error:  # of libraries, on files and templates of others
        raise ModelError(
            f"the tokenizer in {folder} cannot be used: {first_line(error)}"
        ) from error


def _concern(config: SolverConfig, engine: Engine) -> Callable[[list[int]], Awaitable[str | None]]:
    if config.model.path == EMBEDDED:
        return prompt_judge(engine)
    return _no_concern


async def _no_concern(prompt: list[int]) -> str | None:
    return None
