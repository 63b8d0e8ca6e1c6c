"""Runs the epochs of a training, keeps the best one, and writes a checkpoint after each."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from solver.adapter.spec import Epoch, Metrics
from solver.stop.metrics import measure
from solver.stop.training.batches import plan_epoch
from solver.stop.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    restore,
    save_checkpoint,
    snapshot,
)
from solver.stop.training.learner import Learner, TrainingFailed
from solver.stop.training.recipe import Recipe

Report = Callable[[str, int, int, str], None]  # stage, done, total, note


def run_epochs(
    learner: Learner, folder: Path, identity: dict[str, object], *, resume: bool, report: Report
) -> TrainingState:
    """Run the epochs that are left; `learner.adapter` then holds the best epoch's weights.

    The checkpoint is kept in `folder`; with `resume` it is gone on from. Raises `ConfigError` for one
    that cannot be, and `TrainingFailed` for a loss or a score that is not finite.
    """
    adapter, optimizer = learner.adapter, learner.optimizer
    if resume:
        state, best = load_checkpoint(folder, identity, adapter, optimizer)
    else:
        state, best = TrainingState(identity=identity), {}
    _store_prefixes(learner, report)
    while not _is_over(state, learner.recipe):
        row = _run_epoch(learner, state, report)
        state.epochs.append(row)
        if state.best_epoch < 0 or row.validation.brier < state.best.validation.brier:
            state.best_epoch, best = row.epoch, snapshot(adapter)
        report("epoch", row.epoch + 1, learner.recipe.epochs, _line(row))
        if learner.accelerator.is_main_process:
            save_checkpoint(folder, state, adapter, optimizer, best)
    restore(adapter, best)
    return state


def _store_prefixes(learner: Learner, report: Report) -> None:
    stored = 0

    def count(number: int) -> None:
        nonlocal stored
        stored += number
        report("prefixes", stored, len(learner.store), "")

    learner.store.fill(count)


def _is_over(state: TrainingState, recipe: Recipe) -> bool:
    """Whether all epochs were run, or too many in a row had no better Brier score."""
    done = len(state.epochs)
    return done >= recipe.epochs or (done > 0 and done - 1 - state.best_epoch >= recipe.patience)


def _run_epoch(learner: Learner, state: TrainingState, report: Report) -> Epoch:
    recipe, epoch = learner.recipe, len(state.epochs)
    lengths = [len(example.prefix_token_ids) for example in learner.training]
    batches = plan_epoch(lengths, recipe.batch_size, recipe.seed, epoch)
    total = len(batches) * recipe.epochs
    loss_sum = 0.0
    for batch in batches:
        loss = learner.step(batch, recipe.learning_rate_at(state.step, total))
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss became {loss} in epoch {epoch + 1}, step {state.step + 1}: "
                "a lower --learning-rate may help; nothing was overwritten"
            )
        loss_sum += loss * len(batch)
        state.step += 1
        report("training", state.step, total, f"epoch {epoch + 1}, loss {loss:.4f}")
    mean = loss_sum / len(learner.training)
    return Epoch(epoch=epoch, train_loss=mean, validation=_validate(learner))


def _validate(learner: Learner) -> Metrics:
    return measure(
        learner.validation_logits(),
        [example.soft_label for example in learner.validation],
        [example.weight for example in learner.validation],
        [example.problem_id for example in learner.validation],
    )


def _line(row: Epoch) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    validation = row.validation
    return (
        f"training loss {row.train_loss:.4f}; validation Brier {validation.brier:.4f}, "
        f"AUROC {shown(validation.auroc)}, within problems {shown(validation.within_auroc)}"
    )
