"""The base model that an adapter is trained on, and the ids that become [STOP]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from solver.adapter.fingerprint import fingerprint
from solver.adapter.ids import find_stop_ids
from solver.engines.gguf_model import fill, gguf_settings
from solver.engines.tokenizer import load_tokenizer
from solver.errors import ModelError, first_line
from solver.files.gguf import GgufFile, is_gguf
from solver.stop.training.recipe import Recipe


def load_base(
    base: Path, recipe: Recipe, device: Any, *, at_end: bool = False
) -> tuple[Any, tuple[int, ...]]:
    """The frozen base model on `device`, and the [STOP] ids to train. Raises `ModelError`.

    `at_end` asks for the ids of the last check.
    """
    fingerprint(base)  # raises our own error if it is no model
    model = _load(base, recipe.dtype)
    model.requires_grad_(False).eval().to(device)
    if recipe.stop_token_ids is not None:
        return model, recipe.stop_token_ids
    try:
        tokenizer = load_tokenizer(base)
    except (OSError, ValueError, KeyError) as error:
        reason = first_line(error)
        raise ModelError(f"the tokenizer in {base} cannot be loaded: {reason}") from None
    rows = model.get_input_embeddings().weight.shape[0]
    return model, find_stop_ids(tokenizer, rows, recipe.num_stop_tokens, at_end=at_end)


def _load(base: Path, dtype: str) -> Any:
    if is_gguf(base):  # gradients need floats: its weights are unpacked
        file = GgufFile(base)
        return fill(file, gguf_settings(file), getattr(torch, dtype))
    auto: Any = AutoModelForCausalLM
    try:
        return auto.from_pretrained(str(base), dtype=getattr(torch, dtype))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{base} cannot be loaded: {first_line(error)}") from None
