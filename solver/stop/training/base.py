"""The base model that an adapter is trained on, and the ids that become [STOP]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from solver.adapter.fingerprint import fingerprint
from solver.adapter.ids import find_stop_ids
from solver.engines.gguf_model import fill, gguf_settings
from solver.engines.tokenizer import load_tokenizer
from solver.errors import ConfigError, ModelError, first_line
from solver.files.gguf import GgufFile, is_gguf
from solver.stop.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen model, the [STOP] ids to train on it, and the ids whose embeddings they begin with, if any."""

    model: Any
    stop_token_ids: tuple[int, ...]
    begin_as: tuple[int, ...] = ()


def load_base(base: Path, recipe: Recipe, device: Any, *, at_end: bool = False) -> Base:
    """The base model on `device`. Raises `ModelError`, and `ConfigError` for ids that do not suit the text.

    `at_end` asks for the ids of the last check.
    """
    fingerprint(base)  # raises our own error if it is no model
    model = _load(base, recipe.dtype)
    model.requires_grad_(False).eval().to(device)
    ids, text = recipe.stop_token_ids, recipe.stop_text
    if ids is not None and text is None:
        return Base(model, ids)
    try:
        tokenizer = load_tokenizer(base)
    except (OSError, ValueError, KeyError) as error:
        reason = first_line(error)
        raise ModelError(f"the tokenizer in {base} cannot be loaded: {reason}") from None
    begin_as = tuple(tokenizer.encode(text, add_special_tokens=False)) if text else ()
    if ids is None:
        rows = model.get_input_embeddings().weight.shape[0]
        ids = find_stop_ids(tokenizer, rows, len(begin_as) or recipe.num_stop_tokens, at_end=at_end)
    elif len(begin_as) != len(set(ids)):
        raise ConfigError(
            f"the stop text {text!r} has {len(begin_as)} tokens, so it takes as many different [STOP] ids,"
            f" not {len(set(ids))}"
        )
    return Base(model, ids, begin_as)


def _load(base: Path, dtype: str) -> Any:
    if is_gguf(base):  # gradients need floats: its weights are unpacked
        file = GgufFile(base)
        return fill(file, gguf_settings(file), getattr(torch, dtype))
    auto: Any = AutoModelForCausalLM
    try:
        return auto.from_pretrained(str(base), dtype=getattr(torch, dtype))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{base} cannot be loaded: {first_line(error)}") from None
