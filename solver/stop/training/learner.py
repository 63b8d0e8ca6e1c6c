"""The adapter in training: its logits, its loss and a step, divided among processes.

The loss is the weighted binary cross-entropy of the head's logit z against the soft label s (the
paper's target, arXiv 2604.16029),

    mean over examples of w * (softplus(z) - s * z)

The [STOP] positions alone are computed, over stored prefix KV: that is the base model's own and never
changes. A problem's prefixes are learned in the same step. Processes of `accelerate launch` each hold the
base model, share out a step's micro-batches and add up their gradients, so the result does not depend on
how a batch is cut (but for rounding).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from solver.adapter.gate import StopAdapter, StopGate
from solver.adapter.score import check_prefixes
from solver.errors import RunError
from solver.stop.rollouts.examples import StopExample
from solver.stop.training.base import Base
from solver.stop.training.batches import in_runs
from solver.stop.training.prefixes import PrefixStore
from solver.stop.training.probe import fit_head
from solver.stop.training.recipe import Recipe
from solver.stop.training.shelf import Shelf

_EVALUATION_BATCH = 128
_LOOKED_AT = 256  # examples whose states say where the head begins
_LEAST_SPREAD = 0.1  # of the mean spread: a number that hardly varies is not blown up


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
        base: Base,
        training: Sequence[StopExample],
        validation: Sequence[StopExample],
        recipe: Recipe,
        shelf: Shelf,
    ) -> None:
        self.accelerator, self.model, self.recipe = accelerator, base.model, recipe
        self.training, self.validation = training, validation
        self.adapter = StopAdapter.fresh(
            base.model, base.stop_token_ids, recipe.targets, recipe.rank, recipe.alpha, recipe.seed,
            base.begin_as,
        )  # fmt: skip
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
        # examples of a pass that is not a step's
        self._forward = min(recipe.micro_batch or _EVALUATION_BATCH, _EVALUATION_BATCH)
        self.spread: dict[str, Tensor] = {}  # of the states, while the head is learning
        self.gate = StopGate.attach(base.model, self.adapter)
        examples = [*training, *validation]
        prefixes = [example.prefix_token_ids for example in examples]
        check_prefixes(prefixes, self.gate)
        self.store = PrefixStore(base.model, prefixes, [e.problem_id for e in examples], shelf)
        # validation shares no problem with training, so a group belongs to one of the two
        places = [[row.place for row in group.rows] for group in self.store.groups]
        self.groups = [rows for rows in places if rows[0] < len(training)]
        self._validation_groups = [rows for rows in places if rows[0] >= len(training)]
        self._parameters = list(self.adapter.parameters())
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )

    def begin(self) -> None:
        """See how large the [STOP] states are, for the head reads them as deviations of about 1.

        A real model's states have means that are far larger than what tells prefixes apart, and a head that
        learns on them as they are takes the first steps far too loudly. `settle` undoes it.
        A head that begins fitted lets the first steps change what it reads and not turn it about: linear
        probing, then fine-tuning (arXiv 2202.10054).
        """
        with torch.no_grad():
            first = self._runs(self.groups, _LOOKED_AT)[0]
            parts = [
                [row for group in run for row in group] for run in self._runs(first, self._forward)
            ]
            states = torch.cat([self._states(part) for part in parts])
        least = max(1e-6, _LEAST_SPREAD * float(states.std(0, correction=0).mean()))
        self.spread = {
            "mean": states.mean(0),
            "scale": states.std(0, correction=0).clamp(min=least),
        }
        if self.recipe.head == "fitted":
            self._fit_head()

    def settle(self) -> None:
        """Have the head read states as they are, as everyone else does who uses the adapter."""
        head, mean, scale = self.adapter.head, *self._seen_as()
        with torch.no_grad():
            head.weight.div_(scale)
            head.bias.sub_((head.weight * mean).sum())
        self.spread = {}

    def step(self, batch: Sequence[int], learning_rate: float) -> float:
        """One optimizer step on the training examples of these `groups`; returns their mean loss.

        A loss that is not finite changes no weight.
        """
        groups = [self.groups[index] for index in batch]
        count = sum(map(len, groups))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        for parameter in self._parameters:
            parameter.grad = torch.zeros_like(parameter)
        processes = self.accelerator.num_processes
        size = self.recipe.micro_batch or -(-count // processes)
        total = torch.zeros((), device=self.accelerator.device)
        for part in self._share(groups, size):
            rows = torch.tensor(part)
            losses = binary_cross_entropy_with_logits(
                self._logits(part), self._labels[rows].to(total.device), reduction="none"
            )
            loss = (losses * self._weights[rows].to(total.device)).sum() / count
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
        first = len(self.training)
        shape = (first + len(self.validation),)
        found = self._all(self._validation_groups, self._logits, shape)
        logits: list[float] = found[first:].tolist()
        if not all(map(math.isfinite, logits)):
            raise TrainingFailed("a validation score is not finite; nothing was overwritten")
        return logits

    @torch.no_grad()
    def _fit_head(self) -> None:
        count = len(self.training)
        shape = (count + len(self.validation), len(self.adapter.head.weight))
        states = self._all([*self.groups, *self._validation_groups], self._read, shape).cpu()
        head, _ = fit_head(states[:count], self.training, states[count:], self.validation)
        self.adapter.head.load_state_dict(head.state_dict())

    def _all(
        self,
        groups: Sequence[list[int]],
        read: Callable[[Sequence[int]], Tensor],
        shape: tuple[int, ...],
    ) -> Tensor:
        """What `read` says of the rows of `groups`, each in its place; every process reads its part."""
        summed = torch.zeros(shape, device=self.accelerator.device)
        for part in self._share(groups, self._forward):
            summed[part] = read(part)
        return self._sum(summed) if self.accelerator.num_processes > 1 else summed

    def _share(self, groups: Sequence[list[int]], size: int) -> list[list[int]]:
        """The rows of this process's part of `groups`, in micro-batches of about `size`."""
        runs = self._runs(groups, size)[
            self.accelerator.process_index :: self.accelerator.num_processes
        ]
        return [[row for group in run for row in group] for run in runs]

    def _runs(self, groups: Sequence[list[int]], size: int) -> list[list[list[int]]]:
        counts = list(map(len, groups))
        return [[groups[i] for i in run] for run in in_runs(range(len(groups)), counts, size)]

    def _logits(self, rows: Sequence[int]) -> Tensor:
        logits: Tensor = self.adapter.head(self._read(rows))
        return logits

    def _read(self, rows: Sequence[int]) -> Tensor:
        """The states as the head reads them while it learns."""
        mean, scale = self._seen_as()
        return (self._states(rows) - mean) / scale

    def _seen_as(self) -> tuple[Tensor, Tensor]:
        """What is taken from a state and what it is divided by before the head reads it."""
        device = self.accelerator.device
        mean = self.spread.get("mean", torch.zeros(()))
        return mean.to(device), self.spread.get("scale", torch.ones(())).to(device)

    def _states(self, rows: Sequence[int]) -> Tensor:
        states = self.store.stop_states(self.adapter.stop_token_ids, rows)
        return states.to(self.accelerator.device).float()

    def _sum(self, tensor: Tensor | None) -> Tensor:
        """`tensor` added up over all processes."""
        reduced: Tensor = self.accelerator.reduce(tensor, "sum")
        return reduced
