"""The adapter in training: its logits, its loss and a step, divided among processes.

The loss is the weighted binary cross-entropy of the head's logit z against the soft label s (the
paper's target, arXiv 2604.16029),

    mean over examples of w * (softplus(z) - s * z)

The [STOP] positions alone are computed, over stored prefix KV: that is the base model's own and never
changes. Processes of `accelerate launch` each hold the base model, share out a step's micro-batches
and add up their gradients, so the result does not depend on how a batch is cut (but for rounding).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from solver.adapter.gate import StopAdapter, StopGate
from solver.adapter.score import check_prefixes, stop_states
from solver.errors import RunError
from solver.stop.rollouts.examples import StopExample
from solver.stop.training.prefixes import PrefixStore
from solver.stop.training.recipe import Recipe

_GIB = 1024**3
_EVALUATION_BATCH = 128


class TrainingFailed(RunError):
    """The training ended without an adapter that reaches the floor; nothing was overwritten."""


class Learner:
    """A fresh adapter on a frozen model, with its optimizer and the examples it is to learn from.

    `targets` names the projections that have a delta. Raises `ModelError` for prefixes that cannot be
    scored. Detach it by leaving `gate`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        stop_token_ids: tuple[int, ...],
        training: Sequence[StopExample],
        validation: Sequence[StopExample],
        recipe: Recipe,
    ) -> None:
        self.accelerator, self.model, self.recipe = accelerator, model, recipe
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
        self._weights, self._labels = (weights / weights.mean()).float(), labels.float()
        mean = float((weights * labels).sum() / weights.sum())
        self.adapter.head.bias.data.fill_(math.log(mean / (1 - mean)))
        self.gate = StopGate.attach(model, self.adapter)
        prefixes = [example.prefix_token_ids for example in [*training, *validation]]
        check_prefixes(prefixes, self.gate)
        self.store = PrefixStore(model, prefixes, recipe.cache_gib * _GIB)
        self._parameters = list(self.adapter.parameters())
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )

    def step(self, batch: Sequence[int], learning_rate: float) -> float:
        """One optimizer step on these training examples; returns their mean loss.

        A loss that is not finite changes no weight.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        for parameter in self._parameters:
            parameter.grad = torch.zeros_like(parameter)
        processes = self.accelerator.num_processes
        size = self.recipe.micro_batch or -(-len(batch) // processes)
        total = torch.zeros((), device=self.accelerator.device)
        for part in self._share(batch, size):
            rows = torch.tensor(part)
            losses = binary_cross_entropy_with_logits(
                self._logits(part), self._labels[rows].to(total.device), reduction="none"
            )
            loss = (losses * self._weights[rows].to(total.device)).sum() / len(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if processes > 1:
            for parameter in self._parameters:
                parameter.grad = self._sum(parameter.grad)
            total = self._sum(total)
        torch.nn.utils.clip_grad_norm_(self._parameters, self.recipe.clip)
        mean = float(total)
        if math.isfinite(mean):
            self.optimizer.step()
        return mean

    @torch.no_grad()
    def validation_logits(self) -> list[float]:
        """The logit of each validation example. Raises `TrainingFailed` if one is not finite."""
        first, count = len(self.training), len(self.validation)
        lengths = [len(example.prefix_token_ids) for example in self.validation]
        order = sorted(range(count), key=lengths.__getitem__)
        size = min(self.recipe.micro_batch or _EVALUATION_BATCH, _EVALUATION_BATCH)
        summed = torch.zeros(count, device=self.accelerator.device)
        for part in self._share(order, size):
            summed[part] = self._logits([first + row for row in part])
        if self.accelerator.num_processes > 1:
            summed = self._sum(summed)
        logits: list[float] = summed.tolist()
        if not all(map(math.isfinite, logits)):
            raise TrainingFailed("a validation score is not finite; nothing was overwritten")
        return logits

    def _share(self, rows: Sequence[int], size: int) -> list[Sequence[int]]:
        """This process's part of `rows`, in micro-batches of at most `size`."""
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return parts[self.accelerator.process_index :: self.accelerator.num_processes]

    def _logits(self, rows: Sequence[int]) -> Tensor:
        states = stop_states(self.model, self.adapter.stop_token_ids, self.store.get(rows))
        logits: Tensor = self.adapter.head(states.to(self.accelerator.device))
        return logits

    def _sum(self, tensor: Tensor | None) -> Tensor:
        """`tensor` added up over all processes."""
        reduced: Tensor = self.accelerator.reduce(tensor, "sum")
        return reduced
