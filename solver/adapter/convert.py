"""Reads the STOP authors' checkpoint layout and writes an adapter folder of ours.

Theirs: `adapter/` (PEFT, adapter name "classifier"), `classifier_head.pth` (linear, hidden to 2),
`assess_token_embedding.pth` and `assess_token_config.json`. Two things differ in form, not in score:
their two-class softmax is one logit here, the difference of the two rows, since
p(right) = e^b / (e^a + e^b) = sigmoid(b - a); and their one shared embedding, repeated
`num_assess_tokens` times, is one id that stands several times in `stop_token_ids`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from solver.adapter.fingerprint import fingerprint, read_config, read_object
from solver.adapter.folder import (
    PEFT_CONFIG,
    PEFT_TENSORS,
    build_adapter,
    paths_of,
    read_tensors,
    save_adapter,
)
from solver.adapter.gate import check_fits
from solver.adapter.norms import norms_fingerprint
from solver.adapter.spec import StopSpec
from solver.errors import ModelError, first_fault, first_line

_HEAD, _EMBEDDING, _TOKEN = (
    "classifier_head.pth",
    "assess_token_embedding.pth",
    "assess_token_config.json",
)
# PEFT options that change what a LoRA layer computes, and the value that leaves it plain.
_PLAIN_LORA: dict[str, Any] = {
    "use_dora": False,
    "use_rslora": False,
    "bias": "none",
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
}


def convert(
    source: Path,
    base: Path,
    out: Path,
    *,
    mark: int = 2048,
    dialect: str = "fenced",
    prompt: str = "bare",
    stop_token_id: int | None = None,
    base_name: str | None = None,
) -> StopSpec:
    """Convert `source`, a checkpoint for the model folder `base`; writes and returns what it is.

    `stop_token_id` replaces the checkpoint's own special token id, for models whose embedding was
    enlarged for it. Raises `ModelError` for anything that is missing, pickled code or another model.
    """
    token = _read_json(source / _TOKEN)
    stored = _read_pickle(source / _EMBEDDING)
    peft_folder = source / "adapter"
    if not (peft_folder / PEFT_CONFIG).is_file() and (peft_folder / "classifier").is_dir():
        peft_folder = peft_folder / "classifier"  # where PEFT saves an adapter that has a name
    lora = _read_json(peft_folder / PEFT_CONFIG)
    for option, plain in _PLAIN_LORA.items():
        if lora.get(option) and lora[option] != plain:
            raise ModelError(f"{peft_folder}: {option} = {lora[option]} is not supported")
    pairs = {
        path if path.startswith("model.") else f"model.{path}": pair
        for path, pair in paths_of(_read_lora(peft_folder), peft_folder).items()
    }
    embedding = stored.get("input_embedding")
    if not isinstance(embedding, Tensor):
        raise ModelError(f"{source / _EMBEDDING} has no tensor named input_embedding")
    token_id = token.get("special_token_id") if stop_token_id is None else stop_token_id
    try:
        spec = StopSpec(
            base_model=base_name or base.absolute().name,
            fingerprint=fingerprint(base),
            norms=norms_fingerprint(base),
            hidden_size=embedding.numel(),
            stop_token_ids=(token_id,) * _count(token, source),
            mark=mark,
            dialect=dialect,
            prompt=prompt,
            rank=lora.get("r"),
            alpha=lora.get("lora_alpha"),
            targets=tuple(sorted({path.rpartition(".")[2] for path in pairs})),
        )
    except ValidationError as error:
        raise ModelError(f"{source} is incomplete: {first_fault(error)}") from None
    weight, bias = _read_head(source / _HEAD)
    own = {"embeddings": embedding.reshape(1, -1), "head.weight": weight, "head.bias": bias}
    adapter = build_adapter(spec, pairs, {name: t.float() for name, t in own.items()}, source)
    check_fits(_skeleton(base), adapter)
    save_adapter(out, adapter, spec)
    return spec


def _count(token: Mapping[str, Any], source: Path) -> int:
    count = token.get("num_assess_tokens", 1)
    if not isinstance(count, int) or count < 1:
        raise ModelError(f"{source / _TOKEN}: num_assess_tokens is a number from 1 on, not {count}")
    return count


def _read_head(path: Path) -> tuple[Tensor, Tensor]:
    """The logit's weight `[hidden]` and bias `[]`: row "right" minus row "wrong"."""
    state = _read_pickle(path)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    weights = [t for name, t in tensors.items() if name.endswith("weight") and t.ndim == 2]
    biases = [t for name, t in tensors.items() if name.endswith("bias")]
    fits = all(bias.shape == (2,) for bias in biases) and len(biases) <= 1
    if len(weights) != 1 or weights[0].shape[0] != 2 or not fits:
        raise ModelError(f"{path} is not one linear layer with two classes")
    bias = biases[0] if biases else torch.zeros(2)
    return weights[0][1] - weights[0][0], bias[1] - bias[0]


def _read_lora(folder: Path) -> dict[str, Tensor]:
    pickled = folder / "adapter_model.bin"
    if not (folder / PEFT_TENSORS).is_file() and pickled.is_file():
        state = _read_pickle(pickled)
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise ModelError(f"{pickled} holds more than tensors")
        return state
    return read_tensors(folder / PEFT_TENSORS)


def _read_pickle(path: Path) -> dict[str, Any]:
    """A dictionary saved by torch, read without running any code that it may hold."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}") from None
    except pickle.UnpicklingError:
        raise ModelError(f"{path} holds more than tensors, or is damaged: it is not read") from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = first_line(error)
        raise ModelError(f"{path} is truncated or not a torch file: {reason}") from None
    if not isinstance(stored, dict):
        raise ModelError(f"{path} is not a dictionary of tensors")
    return stored


def _read_json(path: Path) -> dict[str, Any]:
    return read_object(path, missing=f"{path.parent} has no {path.name}")


def _skeleton(base: Path) -> Any:
    """The model without its weights, to check shapes against."""
    from transformers import AutoConfig, AutoModelForCausalLM

    read_config(base)
    auto: Any = AutoModelForCausalLM
    try:
        with torch.device("meta"):
            return auto.from_config(
                AutoConfig.from_pretrained(
                    str(base), local_files_only=True, trust_remote_code=False
                )
            )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{base}/config.json cannot be used: {first_line(error)}") from None
