from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import torch

from solver.engines.transformers import TransformersEngine
from tests.engines.helpers import KINDS, tiny_model


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama() -> Any:
    """The model that engines are opened on."""
    return tiny_model("llama")


@pytest.fixture(scope="session")
def reference() -> Any:
    """The same weights with transformers' own attention."""
    return tiny_model("llama")


@pytest.fixture(scope="session", params=KINDS)
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A model for the engine and its twin as the reference, of every supported kind."""
    return tiny_model(request.param), tiny_model(request.param)


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., TransformersEngine]]:
    """Opens engines, and closes them at the end of the test."""
    async with AsyncExitStack() as stack:

        def open_engine(model: Any, **options: Any) -> TransformersEngine:
            engine = TransformersEngine(model, **options)
            stack.push_async_callback(engine.aclose)
            return engine

        yield open_engine
