"""stop.json: an adapter's shape, its base model and mark, its training and its measured quality."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from solver.adapter.combine import Combiner

_EXACT_TOLERANCE, _ROUGH_TOLERANCE = 1e-2, 0.5  # logits


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metrics(_Frozen):
    """Scores against soft labels on examples that were not trained on.

    `brier` is the weighted mean of (probability - label)^2. The AUROCs count a label s as s right
    and 1 - s wrong rollouts; None where no pair of a right and a wrong one exists.
    """

    loss: float
    brier: float
    auroc: float | None
    within_auroc: float | None = Field(description="mean over problems, pairs of the same problem")
    num_examples: int
    num_problems: int

    @property
    def gate_auroc(self) -> float | None:
        """What the floor asks: pruning chooses among one problem's prefixes, so within if known."""
        return self.auroc if self.within_auroc is None else self.within_auroc


class Epoch(_Frozen):
    """One row of the training curve: the mean training loss, then what validation said."""

    epoch: int
    train_loss: float
    validation: Metrics


class TrainingSummary(_Frozen):
    """How the adapter was trained; without times and dates, so that equal trainings give equal files."""

    num_examples: int
    num_problems: int
    data_sha256: str
    best_epoch: int
    epochs: tuple[Epoch, ...]
    recipe: dict[str, object]


class Probe(_Frozen):
    """The head on the base model's last state, without [STOP] and LoRA: what STOP is to be better than.

    `l2` is the one of several with the lowest validation Brier score, which flatters `validation` a little.
    """

    l2: float
    validation: Metrics


class Handshake(_Frozen):
    """A prefix and the logit it got when the adapter was saved: a loader's self-test."""

    prefix_token_ids: tuple[int, ...]
    logit: float
    dtype: Literal["float32", "bfloat16"] = Field(description="of the base model that scored it")

    def agrees(self, logit: float, dtype: str) -> bool:
        """Whether `logit`, computed by a base model in `dtype`, is the stored one.

        Between two float32 models it allows 0.01 of a logit for other machines' arithmetic, else 0.5:
        bfloat16 and 8 bits round every weight.
        """
        exact = dtype == self.dtype == "float32"
        return abs(logit - self.logit) <= (_EXACT_TOLERANCE if exact else _ROUGH_TOLERANCE)


class StopSpec(_Frozen):
    """The whole of stop.json."""

    format_version: Literal[1] = 1
    base_model: str = Field(description="what its folder or GGUF file was called")
    fingerprint: str = Field(pattern="^[0-9a-f]{64}$")
    norms: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="norms_fingerprint of the base: a folder and its GGUF files share it",
    )
    hidden_size: int = Field(ge=1)
    stop_token_ids: tuple[int, ...] = Field(min_length=1, description="in the order they are fed")
    mark: int | None = Field(
        ge=1,
        description="sampled tokens of the prefixes it was trained on; null: it is one of the last check",
    )
    other_marks: tuple[int, ...] = Field((), description="further marks it was trained at")
    dialect: str
    prompt: str = Field(description="name of the prompt template")
    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    targets: tuple[str, ...] = Field(description="suffixes of the adapted layers")
    training: TrainingSummary | None = None
    validation: Metrics | None = None
    combiner: Combiner | None = None
    probe: Probe | None = None
    handshake: Handshake | None = None

    @property
    def marks(self) -> tuple[int, ...]:
        """Every mark that a run may check at; none for an adapter of the last check."""
        return () if self.mark is None else (self.mark, *self.other_marks)

    @model_validator(mode="after")
    def _ids_are_ids(self) -> Self:
        if min(self.stop_token_ids) < 0:
            raise ValueError("stop_token_ids are not negative")
        return self
