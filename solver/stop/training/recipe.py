"""The settings of a training: frozen values and two presets."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from solver.errors import ConfigError, first_fault


class Recipe(BaseModel):
    """How an adapter is trained. The defaults were tuned on the embedded model."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    num_stop_tokens: int = Field(4, ge=1, description="[STOP] ids, when they are not given")
    stop_token_ids: tuple[int, ...] | None = Field(None, description="default: found by themselves")
    stop_text: str | None = Field(
        None, min_length=1, description="[STOP] begins as its tokens, one each; default: as noise"
    )
    head: Literal["zero", "fitted"] = Field(
        "zero", description="how it begins: fitted is by logistic regression on the first states"
    )
    rank: int = Field(16, ge=1)
    alpha: float | None = Field(
        None, gt=0, description="LoRA scale is alpha / rank; default 2 rank"
    )
    targets: tuple[str, ...] | Literal["all-linear"] = ("q_proj", "v_proj")
    learning_rate: float = Field(3e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(30, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of a step's gradient")
    batch_size: int = Field(128, ge=1, description="examples a step, all processes together")
    micro_batch: int | None = Field(
        None, ge=1, description="examples a forward; default: the batch"
    )
    epochs: int = Field(16, ge=1)
    patience: int = Field(8, ge=1, description="epochs without a better Brier score before the end")
    validation_share: float = Field(0.15, gt=0, lt=1, description="of the problems")
    auroc_floor: float = Field(
        0.6, ge=0, lt=1, description="validation AUROC below it is a failure"
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="of the base model")
    cache_gib: float = Field(4.0, ge=0, description="prefix KV kept between epochs, a process")
    window: int = Field(8, ge=1, description="tokens of a confidence window, for stop+confidence")
    combiner_l2: float = Field(1e-2, ge=0)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _targets_are_named(self) -> Self:
        if not self.targets:
            raise ValueError("targets name at least one layer")
        return self

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """The rate of step 0, 1, ...: linear warm-up, then half a cosine to 0 or constant."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - self.warmup_steps) / max(1, num_steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


PRESETS: dict[str, dict[str, object]] = {
    "embedded": {},
    # ours, for a pretrained model and a few hundred problems: docs/stop.md, "The beginning"
    "few-problems": {
        "stop_text": "\n# Correct:",
        "head": "fitted",
        "rank": 8,
        "learning_rate": 3e-4,
        "warmup_steps": 10,
        "epochs": 1,
        "dtype": "bfloat16",
    },
    # arXiv 2604.16029: all linear layers, lr 2e-5, AdamW, 15 epochs, bf16, r from 128, alpha 2r
    "paper": {
        "targets": "all-linear",
        "rank": 128,
        "learning_rate": 2e-5,
        "epochs": 15,
        "dtype": "bfloat16",
        "micro_batch": 8,  # ours: what a GPU holds of 2,048-token prefixes
    },
}


def make_recipe(preset: str, changes: dict[str, object]) -> Recipe:
    """A preset with changes; None means unchanged. Raises `ConfigError` with one line."""
    if preset not in PRESETS:
        raise ConfigError(f"there is no preset {preset!r}: choose {' or '.join(PRESETS)}")
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        recipe = Recipe.model_validate({**PRESETS[preset], **given})
    except ValidationError as error:
        raise ConfigError(first_fault(error, "recipe")) from None
    if recipe.stop_text is not None and "num_stop_tokens" in given:
        raise ConfigError("a stop text says how many [STOP] ids there are: leave out their number")
    return recipe
