"""A small reward model for models that have none: kind II, over text.

It reads problem and prefix and says how likely the end is right: a bidirectional transformer trained
from scratch, or a language model with a head, fine-tuned whole, as reward models mostly are. It learns
from the same examples as STOP, but sees text only, and is saved as an ordinary sequence-classification
folder, which the `reward` scorer reads like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from solver.adapter.spec import Metrics
from solver.cli.progress import WorkProgress
from solver.dialects.base import Dialect
from solver.files.whole import check_replaceable, replace_folder
from solver.scorers.reward import batches, encode_text
from solver.scorers.texts import PromptShape, texts_of
from solver.stop.rollouts.examples import StopExample, check_classes
from solver.stop.training.batches import plan_epoch, split_by_problem
from solver.stop.training.measuring import measure_examples

_MARKER = "config.json"  # what a folder that may be replaced holds


@dataclass(frozen=True, slots=True)
class VerifierRecipe:
    """Size of the model and how it is trained; tuned for a few CPU-minutes.

    `start` is the folder of a language model to begin with; sizes and dropout are then its own.
    """

    start: Path | None = None
    hidden: int = 96
    layers: int = 3
    heads: int = 4
    dropout: float = 0.1
    epochs: int = 8
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of all steps
    validation_share: float = 0.15  # of the problems
    seed: int = 0


def train_verifier(
    examples: Sequence[StopExample],
    dialect: Dialect,
    tokenizer: Any,
    out: Path,
    recipe: VerifierRecipe,
    progress: WorkProgress,
) -> Metrics:
    """Train on soft labels (BCE), keep the epoch with the best validation Brier score, save it.

    Raises `InputError` for data of a single class or a single problem, and `ConfigError` for an `out`
    that holds something else.
    """
    check_replaceable(out.absolute(), _MARKER)
    train, validation = split_by_problem(examples, recipe.validation_share, recipe.seed)
    check_classes(train, "the training examples")
    shape = PromptShape.of(dialect)
    encoded = [_encode(part, dialect, shape, tokenizer) for part in (train, validation)]
    longest = max(len(ids) for part in encoded for ids in part)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = _fresh(recipe, tokenizer, longest)
        metrics, best = _fit(model, recipe, (train, encoded[0]), (validation, encoded[1]), progress)
    model.load_state_dict(best)

    def write(into: Path) -> None:
        model.eval().save_pretrained(into)
        tokenizer.save_pretrained(into)

    replace_folder(out, write, marker=_MARKER)
    return metrics


def _encode(
    examples: Sequence[StopExample], dialect: Dialect, shape: PromptShape, tokenizer: Any
) -> list[list[int]]:
    texts = texts_of(dialect, shape, [example.prefix_token_ids for example in examples])
    return [encode_text(tokenizer, text) for text in texts]


def _fresh(recipe: VerifierRecipe, tokenizer: Any, longest: int) -> Any:
    config: Any = BertConfig
    if recipe.start is not None:
        auto: Any = AutoModelForSequenceClassification
        return auto.from_pretrained(
            str(recipe.start),
            num_labels=1,
            pad_token_id=tokenizer.pad_token_id,
            dtype=torch.float32,
            local_files_only=True,
        )
    return BertForSequenceClassification(
        config(
            num_labels=1,
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            intermediate_size=4 * recipe.hidden,
            hidden_dropout_prob=recipe.dropout,
            attention_probs_dropout_prob=recipe.dropout,
            # Prefixes of other problems may be longer than any that was trained on.
            max_position_embeddings=max(512, 2 * longest),
            type_vocab_size=1,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


Part = tuple[Sequence[StopExample], list[list[int]]]


def _fit(
    model: Any, recipe: VerifierRecipe, train: Part, validation: Part, progress: WorkProgress
) -> tuple[Metrics, dict[str, Tensor]]:
    """Train in place; the best epoch's metrics and weights."""
    num_steps = recipe.epochs * -(-len(train[0]) // recipe.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    # OneCycleLR divides by the steps of its warm-up less one
    warmup = recipe.warmup if round(recipe.warmup * num_steps, 6) != 1 else 2 / num_steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=num_steps, pct_start=warmup
    )
    lengths = [len(ids) for ids in train[1]]
    best: tuple[Metrics, dict[str, Tensor]] | None = None
    step = 0
    for epoch in range(recipe.epochs):
        model.train()
        for rows in plan_epoch(lengths, recipe.batch_size, recipe.seed, epoch):
            ids, mask = _padded([train[1][row] for row in rows], model.config.pad_token_id)
            labels = torch.tensor([train[0][row].soft_label for row in rows])
            weights = torch.tensor([train[0][row].weight for row in rows])
            logits = model(input_ids=ids, attention_mask=mask).logits[:, 0]
            losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
            loss: Any = (losses * weights).sum() / weights.sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            progress.report(
                "steps", step, num_steps, f"epoch {epoch + 1}, loss {float(loss.detach()):.4f}"
            )
        metrics = _validate(model, *validation)
        if best is None or metrics.brier < best[0].brier:
            weights_now = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            best = (metrics, weights_now)
        progress.say(
            f"epoch {epoch + 1} of {recipe.epochs}: validation Brier {metrics.brier:.4f},"
            f" AUROC within {metrics.within_auroc or 0:.3f}"
        )
    assert best is not None, "there is at least one epoch"
    return best


@torch.no_grad()
def _validate(model: Any, examples: Sequence[StopExample], encoded: list[list[int]]) -> Metrics:
    model.eval()
    logits = [0.0] * len(examples)
    for rows in batches([len(ids) for ids in encoded]):
        ids, mask = _padded([encoded[row] for row in rows], model.config.pad_token_id)
        values = model(input_ids=ids, attention_mask=mask).logits[:, 0].tolist()
        for row, value in zip(rows, values, strict=True):
            logits[row] = value
    return measure_examples(logits, examples)


def _padded(batch: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids and mask `[batch, longest]`, padded at the right."""
    longest = max(len(ids) for ids in batch)
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
    return ids, mask
