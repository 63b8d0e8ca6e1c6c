"""Training of an adapter: frozen base, [STOP] positions over stored prefix KV, soft labels.

The loss is the weighted binary cross-entropy of the head's logit z against the soft label s (the
paper's target, arXiv 2604.16029),

    mean over examples of w * (softplus(z) - s * z)

An epoch computes the [STOP] positions only; the prefix KV is the base model's own and never changes.
Processes of `accelerate launch` each hold the base model, share out a step's micro-batches and add
up their gradients, so the result does not depend on how a batch is cut (but for rounding).

The old adapter is replaced only by a finished training that reached the AUROC floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from solver.errors import InputError, RunError
from solver.stop.adapter import SPEC, save_adapter
from solver.stop.base import load_base
from solver.stop.batches import plan_epoch, split_by_problem
from solver.stop.checkpoint import (
    TrainingState,
    Weights,
    discard_checkpoint,
    load_checkpoint,
    restore,
    save_checkpoint,
    snapshot,
)
from solver.stop.combine import Combiner
from solver.stop.crossfit import crossfit_combiner
from solver.stop.curve import draw_curve
from solver.stop.examples import StopExample, check_classes, digest
from solver.stop.fingerprint import fingerprint
from solver.stop.folders import check_replaceable
from solver.stop.gate import StopAdapter, StopGate
from solver.stop.metrics import measure
from solver.stop.prefixes import PrefixStore
from solver.stop.recipe import Recipe
from solver.stop.score import check_prefixes, score_prefixes, stop_states
from solver.stop.spec import Epoch, Handshake, Metrics, StopSpec, TrainingSummary

_GIB = 1024**3
_EVALUATION_BATCH = 128

Report = Callable[[str, int, int, str], None]


class TrainingFailed(RunError):
    """The training ended without an adapter that is worth keeping; nothing was overwritten."""


def checkpoint_folder(out: Path) -> Path:
    """Where an unfinished training of `out` is kept."""
    return out.with_name(f"{out.name}.checkpoint")


def train(
    data: Sequence[StopExample],
    base: Path,
    out: Path,
    recipe: Recipe,
    *,
    mark: int,
    dialect: str = "fenced",
    prompt: str = "bare",
    validation: Sequence[StopExample] | None = None,
    base_name: str | None = None,
    resume: bool = False,
    cpu: bool = False,
    report: Report | None = None,
) -> StopSpec:
    """Train on `data` and write the adapter folder `out`; returns what stop.json says.

    Without `validation`, a share of the problems is held out. `report` hears (stage, done, total,
    note). Raises `InputError` or `ModelError` for what cannot be trained on, and `TrainingFailed`
    for a loss that is not finite or an AUROC below the floor.
    """
    accelerator, out = Accelerator(cpu=cpu), out.absolute()
    check_replaceable(out, SPEC)
    training = list(data)
    if validation is None:
        training, validation = split_by_problem(training, recipe.validation_share, recipe.seed)
    elif shared := {e.problem_id for e in training} & {e.problem_id for e in validation}:
        raise InputError(f"problem {min(shared)} is both in training and in validation")
    check_classes(training, "the training part")
    check_classes(validation, "the validation part")
    model, stop_token_ids = load_base(base, recipe, accelerator.device)
    run = _Run(
        accelerator, model, stop_token_ids, training, list(validation), recipe, report or _silent
    )
    folder = checkpoint_folder(out)
    identity: dict[str, object] = {
        "recipe": recipe.model_dump(mode="json"),
        "data": digest([*training, *validation]),
        "base model": fingerprint(base),
    }
    with run.gate:
        run.train(folder, identity, resume=resume)
        best = run.state.best.validation
        if accelerator.is_main_process:
            picture = out.with_name(f"{out.name}-curve.png")
            picture.parent.mkdir(parents=True, exist_ok=True)
            draw_curve(picture, run.state.epochs, run.state.best_epoch, recipe.auroc_floor)
        reached = best.gate_auroc
        if reached is None or not reached >= recipe.auroc_floor:
            shown = "undefined" if reached is None else f"{reached:.3f}"
            if accelerator.is_main_process:
                discard_checkpoint(folder)
            raise TrainingFailed(
                f"the validation AUROC is {shown}, below the floor of {recipe.auroc_floor:g}: "
                f"{out} is left as it was; more problems help most, then more epochs"
            )
        spec = StopSpec(
            base_model=base_name or str(base),
            fingerprint=str(identity["base model"]),
            hidden_size=run.adapter.embeddings.shape[1],
            stop_token_ids=stop_token_ids,
            mark=mark,
            dialect=dialect,
            prompt=prompt,
            rank=recipe.rank,
            alpha=run.adapter.alpha,
            targets=run.targets,
            training=TrainingSummary(
                num_examples=len(training),
                num_problems=len({example.problem_id for example in training}),
                data_sha256=str(identity["data"]),
                best_epoch=run.state.best_epoch,
                epochs=tuple(run.state.epochs),
                recipe=recipe.model_dump(mode="json"),
            ),
            validation=best,
            combiner=run.fit_combiner(),
            handshake=run.handshake(),
        )
        if accelerator.is_main_process:
            save_adapter(out, run.adapter, spec)
            discard_checkpoint(folder)
    accelerator.wait_for_everyone()
    return spec


class _Run:
    """One training in memory: model, gate, optimizer, stored prefixes, state."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        stop_token_ids: tuple[int, ...],
        training: Sequence[StopExample],
        validation: Sequence[StopExample],
        recipe: Recipe,
        report: Report,
    ) -> None:
        self.accelerator, self.model, self.recipe, self.report = accelerator, model, recipe, report
        self.training, self.validation = training, validation
        self.adapter = StopAdapter.fresh(
            model, stop_token_ids, recipe.targets, recipe.rank, recipe.alpha, recipe.seed
        )
        self.targets = (
            tuple(sorted({path.rpartition(".")[2] for path in self.adapter.delta_by_path}))
            if recipe.targets == "all-linear"
            else recipe.targets
        )
        weights = torch.tensor([example.weight for example in training], dtype=torch.float64)
        labels = torch.tensor([example.soft_label for example in training], dtype=torch.float64)
        # Scaled once, to mean 1, so that a batch of frequent prefixes counts for more than another.
        self.weights, self.labels = (weights / weights.mean()).float(), labels.float()
        mean = float((weights * labels).sum() / weights.sum())
        self.adapter.head.bias.data.fill_(math.log(mean / (1 - mean)))
        self.gate = StopGate.attach(model, self.adapter)
        prefixes = [example.prefix_token_ids for example in [*training, *validation]]
        check_prefixes(prefixes, self.gate)
        self.lengths = [len(example.prefix_token_ids) for example in training]
        self.store = PrefixStore(model, prefixes, recipe.cache_gib * _GIB)
        self.parameters = list(self.adapter.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.state = TrainingState(identity={})
        self.best: Weights = {}
        self.logits: list[float] = []

    def train(self, folder: Path, identity: dict[str, object], *, resume: bool) -> None:
        """Run the epochs that are left; the adapter then holds the best epoch's weights."""
        if resume:
            self.state, self.best = load_checkpoint(folder, identity, self.adapter, self.optimizer)
        else:
            self.state = TrainingState(identity=identity)
        stored = 0

        def count(number: int) -> None:
            nonlocal stored
            stored += number
            self.report("prefixes", stored, len(self.store), "")

        self.store.fill(count)
        while len(self.state.epochs) < self.recipe.epochs and not self._is_stale():
            self._epoch(len(self.state.epochs))
            if self.accelerator.is_main_process:
                save_checkpoint(folder, self.state, self.adapter, self.optimizer, self.best)
        restore(self.adapter, self.best)

    def _is_stale(self) -> bool:
        epochs = self.state.epochs
        return bool(epochs) and len(epochs) - 1 - self.state.best_epoch >= self.recipe.patience

    def _epoch(self, epoch: int) -> None:
        recipe, state = self.recipe, self.state
        batches = plan_epoch(self.lengths, recipe.batch_size, recipe.seed, epoch)
        total = len(batches) * recipe.epochs
        loss_sum = 0.0
        for batch in batches:
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(state.step, total)
            loss = self._step(batch)
            if not math.isfinite(loss):
                raise TrainingFailed(
                    f"the loss became {loss} in epoch {epoch + 1}, step {state.step + 1}: "
                    "a lower --learning-rate may help; nothing was overwritten"
                )
            loss_sum += loss * len(batch)
            state.step += 1
            self.report("training", state.step, total, f"epoch {epoch + 1}, loss {loss:.4f}")
        row = Epoch(
            epoch=epoch, train_loss=loss_sum / len(self.training), validation=self._validate()
        )
        state.epochs.append(row)
        if state.best_epoch < 0 or row.validation.brier < state.best.validation.brier:
            state.best_epoch, self.best = epoch, snapshot(self.adapter)
        self.report("epoch", epoch + 1, recipe.epochs, _line(row))

    def _step(self, batch: Sequence[int]) -> float:
        """One optimizer step on a batch shared out among processes; returns its mean loss."""
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        processes = self.accelerator.num_processes
        size = self.recipe.micro_batch or -(-len(batch) // processes)
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        total = torch.zeros((), device=self.accelerator.device)
        for part in parts[self.accelerator.process_index :: processes]:
            rows = torch.tensor(part)
            losses = binary_cross_entropy_with_logits(
                self._logits(part), self.labels[rows].to(total.device), reduction="none"
            )
            loss = (losses * self.weights[rows].to(total.device)).sum() / len(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if processes > 1:
            for parameter in self.parameters:
                parameter.grad = self._sum(parameter.grad)
            total = self._sum(total)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        mean = float(total)
        if math.isfinite(mean):
            self.optimizer.step()
        return mean

    def _logits(self, rows: Sequence[int]) -> Tensor:
        states = stop_states(self.model, self.adapter.stop_token_ids, self.store.get(rows))
        logits: Tensor = self.adapter.head(states.to(self.accelerator.device))
        return logits

    @torch.no_grad()
    def _validate(self) -> Metrics:
        """Logits of the validation examples into `self.logits`, and their metrics."""
        first, count = len(self.training), len(self.validation)
        lengths = [len(example.prefix_token_ids) for example in self.validation]
        order = sorted(range(count), key=lengths.__getitem__)
        size = min(self.recipe.micro_batch or _EVALUATION_BATCH, _EVALUATION_BATCH)
        parts = [order[start : start + size] for start in range(0, count, size)]
        logits = torch.zeros(count, device=self.accelerator.device)
        for part in parts[self.accelerator.process_index :: self.accelerator.num_processes]:
            logits[part] = self._logits([first + row for row in part])
        if self.accelerator.num_processes > 1:
            logits = self._sum(logits)
        self.logits = logits.tolist()
        if not all(map(math.isfinite, self.logits)):
            raise TrainingFailed("a validation score is not finite; nothing was overwritten")
        return measure(
            self.logits,
            [example.soft_label for example in self.validation],
            [example.weight for example in self.validation],
            [example.problem_id for example in self.validation],
        )

    def fit_combiner(self) -> Combiner | None:
        """stop+confidence on the best epoch's validation logits, if log-probabilities are known."""
        if any(example.logprobs is None for example in self.validation):
            return None
        self._validate()
        return crossfit_combiner(
            self.logits, self.validation, self.recipe.window, self.recipe.combiner_l2
        )

    def handshake(self) -> Handshake:
        """The first validation prefix and its score by the reference scorer."""
        prefix = self.validation[0].prefix_token_ids
        logit = score_prefixes(self.model, self.gate, [prefix])
        return Handshake(prefix_token_ids=prefix, logit=float(logit[0]), dtype=self.recipe.dtype)

    def _sum(self, tensor: Tensor | None) -> Tensor:
        reduced: Tensor = self.accelerator.reduce(tensor, "sum")
        return reduced


def _silent(stage: str, done: int, total: int, note: str) -> None:
    """A report that nobody reads."""


def _line(row: Epoch) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    validation = row.validation
    return (
        f"training loss {row.train_loss:.4f}; validation Brier {validation.brier:.4f}, "
        f"AUROC {shown(validation.auroc)}, within problems {shown(validation.within_auroc)}"
    )
