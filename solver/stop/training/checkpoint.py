"""A training's state, on disk without pickles, so that it can be resumed exactly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from solver.adapter.gate import StopAdapter
from solver.adapter.spec import Epoch
from solver.errors import ConfigError
from solver.files.whole import replace_folder, write_text

_STATE, _TENSORS = "state.json", "state.safetensors"

Weights = dict[str, Tensor]


class TrainingState(BaseModel):
    """The progress of a training. `identity` names recipe, data and base model: all must agree.

    `loss_sum` is what the examples of an unfinished epoch have lost so far.
    """

    model_config = ConfigDict(extra="forbid")

    identity: dict[str, object]
    step: int = 0
    loss_sum: float = 0.0
    best_epoch: int = -1
    epochs: list[Epoch] = []

    @property
    def best(self) -> Epoch:
        """The epoch with the lowest validation Brier score."""
        return self.epochs[self.best_epoch]


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    adapter: StopAdapter,
    optimizer: Any,
    best: Weights,
    spread: Weights,
) -> None:
    """Write the state; a crash while writing leaves the one before. `spread` is how the head sees states."""
    tensors = {f"adapter.{name}": tensor for name, tensor in snapshot(adapter).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    tensors |= {f"spread.{name}": tensor.cpu() for name, tensor in spread.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": t.detach().cpu() for name, t in values.items()}

    def write(into: Path) -> None:
        save_file({name: t.contiguous() for name, t in tensors.items()}, into / _TENSORS)
        write_text(into / _STATE, state.model_dump_json() + "\n")

    replace_folder(folder, write, marker=_STATE)


def load_checkpoint(
    folder: Path, identity: dict[str, object], adapter: StopAdapter, optimizer: Any
) -> tuple[TrainingState, Weights, Weights]:
    """Put a saved state into `adapter` and `optimizer`; returns it, the best weights and the spread.

    Raises `ConfigError` if there is none, it is damaged, or it is of another training.
    """
    try:
        state = TrainingState.model_validate_json((folder / _STATE).read_bytes())
        tensors: Weights = load_file(folder / _TENSORS)
    except FileNotFoundError:
        raise ConfigError(f"there is no training to resume in {folder}") from None
    except (OSError, ValidationError, SafetensorError):
        raise ConfigError(
            f"the checkpoint in {folder} is damaged: train without --resume"
        ) from None
    for name, value in identity.items():
        if state.identity.get(name) != value:
            raise ConfigError(
                f"the checkpoint in {folder} is of another training: {name} was "
                f"{state.identity.get(name)}, now it is {value}"
            )
    groups: dict[str, Weights] = {"adapter": {}, "best": {}, "optimizer": {}, "spread": {}}
    for key, tensor in tensors.items():
        group, _, name = key.partition(".")
        groups[group][name] = tensor
    restore(adapter, groups["adapter"])
    saved: dict[int, Weights] = {}
    for key, tensor in groups["optimizer"].items():
        index, _, name = key.partition(".")
        saved.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": saved})
    return state, groups["best"], groups["spread"]


def discard_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a finished training; a folder that is no checkpoint is kept."""
    if (folder / _STATE).is_file():
        shutil.rmtree(folder)


def snapshot(adapter: StopAdapter) -> Weights:
    """A copy of the adapter's weights on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in adapter.state_dict().items()}


@torch.no_grad()
def restore(adapter: StopAdapter, weights: Weights) -> None:
    """Put copied weights back."""
    for name, tensor in adapter.state_dict().items():
        tensor.copy_(weights[name])
