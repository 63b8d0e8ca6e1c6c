"""The token-gated adapter: [STOP] rows are changed, every other row keeps its bits.

`StopAdapter` owns what is learned: an embedding for each [STOP] id, low-rank deltas
`scale * B(A(x))` of the target projections, and the head that reads the state of the last [STOP].
`StopGate` puts it on a transformers causal language model through registered forward hooks, and a second
one beside it if it has other ids. The gate reads the `input_ids` that the base model is called with, whatever
their shape, so the same mechanism serves training, the reference scorer and an engine that packs many
requests into one row.

It replaces no module, patches nothing and refuses what does not fit (`ModelError`): ids beyond the
vocabulary, targets that are missing or have other shapes, ids that another gate of the model reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solver.errors import ModelError

Targets = Sequence[str] | Literal["all-linear"]


class LowRank(nn.Module):
    """One delta `scale * B(A(x))` (LoRA): A `[rank, inputs]`, B `[outputs, rank]`, B starts at 0."""

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.lora_A = nn.Parameter(torch.empty(rank, inputs))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, states: Tensor) -> Tensor:
        """`[..., inputs]` to `[..., outputs]`, in the adapter's own precision."""
        states = states.to(self.lora_A.dtype)
        delta: Tensor = F.linear(F.linear(states, self.lora_A), self.lora_B) * self.scale
        return delta


class Head(nn.Module):
    """The linear head, fp32: a state `[..., hidden]` to the logit `[...]` of "ends right"; it starts at 0."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, state: Tensor) -> Tensor:
        """The logit of the last [STOP] position's state (last layer, after the final norm)."""
        return state.float() @ self.weight + self.bias


class StopAdapter(nn.Module):
    """Everything that is learned, in fp32.

    `stop_token_ids` are appended to a prefix in this order; an id may stand there several times.
    `embeddings` has one row for each distinct id, in order of first appearance: `[distinct, hidden]`.
    `deltas` maps a target's path in the model to its `LowRank`.
    """

    def __init__(
        self,
        stop_token_ids: Sequence[int],
        hidden_size: int,
        shapes: Mapping[str, tuple[int, int]],
        rank: int,
        alpha: float,
    ) -> None:
        """`shapes` gives (inputs, outputs) for the path of every target; the scale is alpha / rank."""
        super().__init__()
        if not stop_token_ids:
            raise ModelError("an adapter needs at least one [STOP] id")
        self.stop_token_ids = tuple(stop_token_ids)
        self.distinct_ids = tuple(dict.fromkeys(stop_token_ids))
        self.rank, self.alpha = rank, alpha
        self.embeddings = nn.Parameter(torch.zeros(len(self.distinct_ids), hidden_size))
        deltas = {
            _key(path): LowRank(inputs, outputs, rank, alpha / rank)
            for path, (inputs, outputs) in shapes.items()
        }
        self.deltas = nn.ModuleDict(deltas)
        self.head = Head(hidden_size)

    @classmethod
    def fresh(
        cls,
        model: Any,
        stop_token_ids: Sequence[int],
        targets: Targets = ("q_proj", "v_proj"),
        rank: int = 16,
        alpha: float | None = None,
        seed: int = 0,
        begin_as: Sequence[int] = (),
    ) -> StopAdapter:
        """A seeded, untrained adapter for `model`; alpha is 2 * rank by default.

        The embeddings start as those of the ids `begin_as`, one for each distinct [STOP] id, or as noise of
        the size of the model's own, so that the first steps are neither blind nor loud. Raises
        `ModelError` for targets that the model does not have.
        """
        shapes = {path: _shape(module) for path, module in target_modules(model, targets).items()}
        table = model.get_input_embeddings().weight
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = cls(stop_token_ids, table.shape[1], shapes, rank, alpha or 2.0 * rank)
            size = float(table.detach().float().std())
            nn.init.normal_(adapter.embeddings, std=size)
        if begin_as:
            adapter.embeddings.data.copy_(table.detach()[list(begin_as)])
        return adapter

    @property
    def delta_by_path(self) -> dict[str, LowRank]:
        """The low-rank deltas by the path of the module they belong to."""
        return {key.replace("/", "."): delta for key, delta in self.deltas.items()}  # type: ignore[misc]


class StopGate:
    """An adapter on a model, until `detach` or the end of the `with` block. One gate an id.

    A model computes one forward pass at a time; the gate keeps that pass's [STOP] rows and forgets
    them when it ends. A pass without a [STOP] id costs one comparison of the ids.
    """

    def __init__(self, model: Any, adapter: StopAdapter) -> None:
        """Use `attach`."""
        self.model, self.adapter = model, adapter
        self._rows: Tensor | None = None  # bool, the shape of input_ids
        self._slots: Tensor | None = None  # which row of the embeddings, meaningful on [STOP] rows
        self._ids = torch.tensor(adapter.distinct_ids)
        self._hooks: list[Any] = []

    @classmethod
    def attach(cls, model: Any, adapter: StopAdapter) -> Self:
        """Register the hooks; the adapter moves to the model's devices. Raises `ModelError`."""
        base, table = model.base_model, model.get_input_embeddings()
        for hook in base._forward_pre_hooks.values():
            other = getattr(hook, "__self__", None)
            if isinstance(other, StopGate):
                _check_apart(adapter, other.adapter)
        check_fits(model, adapter)
        modules, deltas = dict(model.named_modules()), adapter.delta_by_path
        device = table.weight.device
        adapter.embeddings.data = adapter.embeddings.data.to(device)
        adapter.head.to(device)
        gate = cls(model, adapter)
        gate._hooks += [
            base.register_forward_pre_hook(gate._enter, with_kwargs=True),
            base.register_forward_hook(gate._leave, always_call=True),
            table.register_forward_hook(gate._embed),
        ]
        for path, delta in deltas.items():
            module: Any = modules[path]
            delta.to(_device_of(module, device))
            gate._hooks.append(module.register_forward_hook(partial(gate._project, delta)))
        return gate

    def detach(self) -> None:
        """Remove every hook; safe to call twice."""
        while self._hooks:
            self._hooks.pop().remove()
        self._rows = self._slots = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()

    def _enter(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        self._rows = self._slots = None
        if ids is None:  # called with embeddings: there is no id that could be [STOP]
            return
        if self._ids.device != ids.device:
            self._ids = self._ids.to(ids.device)
        matches = ids[..., None] == self._ids
        rows = matches.any(-1)
        if bool(rows.any()):
            self._rows, self._slots = rows, matches.int().argmax(-1)

    def _leave(self, base: nn.Module, args: Any, output: Any) -> None:
        self._rows = self._slots = None

    def _embed(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if self._rows is None or self._slots is None:
            return None
        learned = F.embedding(self._slots, self.adapter.embeddings).to(output.dtype)
        return torch.where(self._rows[..., None], learned, output)

    def _project(
        self, delta: LowRank, module: nn.Module, args: Any, output: Tensor
    ) -> Tensor | None:
        if self._rows is None:
            return None
        # Mixture layers see their tokens flattened: the rows are the same, in the same order.
        rows = self._rows.reshape(*output.shape[:-1], 1).to(output.device)
        # `where` and not a product: x + 0 * delta is not always x, bit for bit.
        return torch.where(rows, (output + delta(args[0])).to(output.dtype), output)


def check_fits(model: Any, adapter: StopAdapter) -> None:
    """Raise `ModelError` unless ids, hidden size and every adapted layer are the model's."""
    rows, hidden_size = model.get_input_embeddings().weight.shape
    check_ids(adapter.stop_token_ids, rows)
    if adapter.embeddings.shape[1] != hidden_size:
        raise ModelError(
            f"the adapter's hidden size is {adapter.embeddings.shape[1]}, the model's {hidden_size}"
        )
    modules = dict(model.named_modules())
    for path, delta in adapter.delta_by_path.items():
        module = modules.get(path)
        if not hasattr(module, "in_features"):
            raise ModelError(f"the adapter changes {path}: the model has no such linear layer")
        shape = (delta.lora_A.shape[1], delta.lora_B.shape[0])
        if shape != _shape(module):
            raise ModelError(f"the adapter's shape at {path} is {shape}, not {_shape(module)}")


def _check_apart(adapter: StopAdapter, attached: StopAdapter) -> None:
    if shared := set(adapter.distinct_ids) & set(attached.distinct_ids):
        raise ModelError(
            f"the model already has a STOP adapter attached that reads the [STOP] id {min(shared)}: detach it"
            " first, or train one of the two with other --stop-ids"
        )


def check_ids(stop_token_ids: Iterable[int], num_rows: int) -> None:
    """Raise `ModelError` for a [STOP] id outside an embedding table of `num_rows` rows."""
    for token in stop_token_ids:
        if not 0 <= token < num_rows:
            raise ModelError(
                f"the [STOP] id {token} is beyond the model's vocabulary of {num_rows} ids"
            )


def target_modules(model: Any, targets: Targets) -> dict[str, nn.Module]:
    """The modules whose path ends with one of `targets`, by path, in the model's order.

    "all-linear" means every linear layer but the output embedding, as in the paper. Raises
    `ModelError` for a target that no linear layer answers to.
    """
    output = model.get_output_embeddings()
    linear: dict[str, nn.Module] = {
        path: module
        for path, module in model.named_modules()
        if hasattr(module, "in_features") and module is not output
    }
    if targets == "all-linear":
        return linear
    found = {
        path: module
        for path, module in linear.items()
        if any(f".{path}".endswith(f".{target}") for target in targets)
    }
    for target in targets:
        if not any(f".{path}".endswith(f".{target}") for path in found):
            raise ModelError(f"the model has no linear layer named {target!r} to adapt")
    return found


def _device_of(module: Any, otherwise: torch.device) -> torch.device:
    # a layer in 8 bits has no weight that could be asked; it is where the embeddings are
    weight = getattr(module, "weight", None)
    return otherwise if weight is None else weight.device


def _shape(module: Any) -> tuple[int, int]:
    return int(module.in_features), int(module.out_features)


def _key(path: str) -> str:
    return path.replace(".", "/")  # torch allows no dots in the name of a submodule
