"""The plugin that vLLM finds by the entry point `vllm.general_plugins`: it names our classes, no more.

Every vLLM process on the machine calls `register`, most of them to serve something else. So nothing
of ours is imported until a server is told to serve a `Stop...` architecture (`serving.server_flags`),
and a vLLM that has no place for us goes on without us.
"""

from __future__ import annotations

import logging

from solver.adapter.vllm.serving import WRAPPED

_MODULE = "solver.adapter.vllm.models"


def register() -> None:
    """Register `Stop...ForCausalLM` for every wrapped class. May be called several times."""
    try:
        _register()
    except Exception as error:
        logging.getLogger("vllm.plugins").warning(
            "stop-solver: STOP cannot be served by this vLLM, other models can: %s", error
        )


def _register() -> None:
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    for stock in WRAPPED:
        ModelRegistry.register_model(f"Stop{stock}", f"{_MODULE}:Stop{stock}")
        # What vLLM arranges for an architecture by its name (gpt-oss: how its weights are quantised).
        if stock in MODELS_CONFIG_MAP:
            MODELS_CONFIG_MAP[f"Stop{stock}"] = MODELS_CONFIG_MAP[stock]
