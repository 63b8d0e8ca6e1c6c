"""The one place that builds engine, dialect, kernels and scorer from a config."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sandbox.isolation import IsolationError
from sandbox.limits import Limits
from sandbox.pool import KernelPool
from solver.clock import MonotonicClock
from solver.config import SolverConfig
from solver.dialects.base import Dialect
from solver.embedded.judge import prompt_judge
from solver.embedded.paths import EMBEDDED, model_folder
from solver.errors import ConfigError, ModelError
from solver.events import Event
from solver.ports import Engine
from solver.scorers.registry import make_scorer
from solver.services import Services


@asynccontextmanager
async def services(
    config: SolverConfig,
    *,
    record: Callable[[Event], None],
    started_at: float,
    stopping: asyncio.Event,
) -> AsyncIterator[Services]:
    """Load the model, start the kernel pool, and close both at the end.

    Raises `ModelError` for a model that cannot be used, `ConfigError` where a layer of isolation is
    missing that the config requires.
    """
    from solver.engines.transformers import load

    async with _kernels(config.sandbox) as sandboxes:
        # Spares start in their own processes while the model loads in this one.
        folder = model_folder(config.model.path)
        model = config.model.model_copy(update={"path": str(folder)})
        async with await asyncio.to_thread(load, model) as engine:
            dialect = _dialect(folder, config.model.prompt)
            yield Services(
                config=config,
                engine=engine,
                dialect=dialect,
                sandboxes=sandboxes,
                scorer=await make_scorer(config, engine, dialect, folder),
                clock=MonotonicClock(),
                record=record,
                started_at=started_at,
                concern=_concern(config, engine),
                stopping=stopping,
            )


@asynccontextmanager
async def _kernels(limits: Limits) -> AsyncIterator[KernelPool]:
    try:
        async with KernelPool(limits) as pool:
            yield pool
    except IsolationError as error:
        raise ConfigError(str(error)) from error


def _dialect(folder: Path, prompt: str) -> Dialect:
    from transformers import AutoTokenizer

    from solver.dialects.fenced import FencedDialect

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no tokenizer in {folder}: copy tokenizer.json and tokenizer_config.json there"
        ) from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer in {folder} has no chat template; use an instruction model"
        )
    return FencedDialect(tokenizer, prompt)


def _concern(config: SolverConfig, engine: Engine) -> Callable[[list[int]], Awaitable[str | None]]:
    if config.model.path == EMBEDDED:
        return prompt_judge(engine)
    return _no_concern


async def _no_concern(prompt: list[int]) -> str | None:
    return None
