"""Runs the epochs of a training, keeps the best one, and writes checkpoints on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from solver.adapter.spec import Epoch, Metrics
from solver.cli.progress import WorkProgress
from solver.stop.training.batches import plan_epoch
from solver.stop.training.checkpoint import (
    TrainingState,
    Weights,
    load_checkpoint,
    restore,
    save_checkpoint,
    snapshot,
)
from solver.stop.training.learner import Learner, TrainingFailed
from solver.stop.training.measuring import measure_examples
from solver.stop.training.recipe import Recipe

SAVE_EVERY_S = 60.0  # within an epoch


def run_epochs(
    learner: Learner,
    folder: Path,
    identity: dict[str, object],
    *,
    resume: bool,
    progress: WorkProgress,
    on_epoch: Callable[[str], None],
) -> TrainingState:
    """Run the epochs that are left; `learner.adapter` then holds the best epoch's weights.

    The checkpoint is kept in `folder`; with `resume` it is gone on from. `on_epoch` is told of each epoch
    in one line. Raises `ConfigError` for one
    that cannot be, and `TrainingFailed` for a loss or a score that is not finite.
    """
    adapter, optimizer = learner.adapter, learner.optimizer
    state = TrainingState(identity=identity)
    best: Weights = {}
    if resume:
        state, best, learner.spread = load_checkpoint(folder, identity, adapter, optimizer)
    _store_prefixes(learner, progress)
    if not resume:
        progress.report("the first states")
        learner.begin()
    plans = _plans(learner)

    def save() -> None:
        if learner.accelerator.is_main_process:
            save_checkpoint(folder, state, adapter, optimizer, best, learner.spread)

    while not _is_over(state, learner.recipe):
        row = _run_epoch(learner, state, plans, progress, save)
        state.epochs.append(row)
        if state.best_epoch < 0 or row.validation.brier < state.best.validation.brier:
            state.best_epoch, best = row.epoch, snapshot(adapter)
        on_epoch(f"epoch {row.epoch + 1} of {learner.recipe.epochs}: {_line(row)}")
        save()
    progress.report("steps", state.step, state.step)  # patience may have ended them early
    restore(adapter, best)
    learner.settle()
    return state


def _store_prefixes(learner: Learner, progress: WorkProgress) -> None:
    stored, total = learner.store.num_kept_tokens, learner.store.num_tokens

    def count(num_tokens: int) -> None:
        nonlocal stored
        stored += num_tokens
        progress.report("prefix tokens", stored, total)

    progress.report("prefix tokens", stored, total)
    learner.store.fill(count)
    progress.report("prefix tokens", stored, stored)  # the rest is beyond the cache's bound


def _is_over(state: TrainingState, recipe: Recipe) -> bool:
    """Whether all epochs were run, or too many in a row had no better Brier score."""
    done = len(state.epochs)
    return done >= recipe.epochs or (done > 0 and done - 1 - state.best_epoch >= recipe.patience)


def _plans(learner: Learner) -> list[list[list[int]]]:
    """The batches of every epoch; their number decides the learning rate of each step."""
    recipe, groups = learner.recipe, learner.groups
    lengths = [max(len(learner.training[row].prefix_token_ids) for row in g) for g in groups]
    counts = list(map(len, groups))
    return [
        plan_epoch(lengths, recipe.batch_size, recipe.seed, epoch, counts)
        for epoch in range(recipe.epochs)
    ]


def _run_epoch(
    learner: Learner,
    state: TrainingState,
    plans: Sequence[list[list[int]]],
    progress: WorkProgress,
    save: Callable[[], None],
) -> Epoch:
    recipe, epoch = learner.recipe, len(state.epochs)
    total, before = sum(map(len, plans)), sum(map(len, plans[:epoch]))
    progress.report("steps", state.step, total, f"epoch {epoch + 1}")
    saved_at = time.monotonic()
    for batch in plans[epoch][state.step - before :]:
        loss = learner.step(batch, recipe.learning_rate_at(state.step, total))
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss became {loss} in epoch {epoch + 1}, step {state.step + 1}: "
                "a lower --learning-rate may help; nothing was overwritten"
            )
        state.loss_sum += loss * sum(len(learner.groups[group]) for group in batch)
        state.step += 1
        progress.report("steps", state.step, total, f"epoch {epoch + 1}, loss {loss:.4f}")
        if time.monotonic() - saved_at >= SAVE_EVERY_S:
            save()
            saved_at = time.monotonic()
    mean, state.loss_sum = state.loss_sum / len(learner.training), 0.0
    progress.report("validating")
    return Epoch(epoch=epoch, train_loss=mean, validation=_validate(learner))


def _validate(learner: Learner) -> Metrics:
    return measure_examples(learner.validation_logits(), learner.validation)


def _line(row: Epoch) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    validation = row.validation
    return (
        f"training loss {row.train_loss:.4f}; validation Brier {validation.brier:.4f}, "
        f"AUROC {shown(validation.auroc)}, within problems {shown(validation.within_auroc)}"
    )
