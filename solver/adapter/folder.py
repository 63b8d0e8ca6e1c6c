"""An adapter on disk: a folder that PEFT reads as LoRA, and what PEFT does not know beside it.

    adapter_config.json, adapter_model.safetensors    PEFT's names and layout
    stop.safetensors                                  embeddings, head.weight, head.bias
    probe.safetensors                                 weight, bias; an adapter may have none
    stop.json                                         `StopSpec`

Nothing is pickled, and pickled files are refused unread. Loading checks everything that can be
checked without the model's weights; `StopGate.attach` checks the shapes of its layers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from solver.adapter.fingerprint import fingerprint, read_config
from solver.adapter.gate import Head, StopAdapter, check_ids
from solver.adapter.norms import norms_fingerprint
from solver.adapter.spec import StopSpec
from solver.errors import ConfigError, ModelError, first_fault
from solver.files.gguf import is_gguf
from solver.files.whole import replace_folder, write_text

SPEC, TENSORS, PROBE = "stop.json", "stop.safetensors", "probe.safetensors"
PEFT_CONFIG, PEFT_TENSORS = "adapter_config.json", "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle")


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter that was checked against its base model, ready for `StopGate.attach`.

    `probe` is the head on the base model's own states that was trained beside it, if one was.
    """

    spec: StopSpec
    adapter: StopAdapter
    probe: Head | None = None


def save_adapter(
    folder: Path, adapter: StopAdapter, spec: StopSpec, probe: Head | None = None
) -> None:
    """Write the folder in one step; only an adapter or an empty folder is replaced."""
    lora, own = _peft_tensors(adapter), _own_tensors(adapter)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": spec.base_model,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "target_modules": list(spec.targets),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }

    def write(into: Path) -> None:
        save_file(lora, into / PEFT_TENSORS, metadata={"format": "pt"})
        save_file(own, into / TENSORS, metadata={"format": "pt"})
        if probe is not None:
            tensors = {name: _plain(tensor) for name, tensor in probe.state_dict().items()}
            save_file(tensors, into / PROBE, metadata={"format": "pt"})
        write_text(into / PEFT_CONFIG, json.dumps(config, indent=2) + "\n")
        write_text(into / SPEC, spec.model_dump_json(indent=2) + "\n")

    replace_folder(folder, write, marker=SPEC)


def load_adapter(
    folder: Path,
    model_folder: Path,
    *,
    marks: Sequence[int] = (),
    at_end: bool = False,
    dialect: str | None = None,
    prompt: str | None = None,
) -> LoadedAdapter:
    """Read an adapter for a model folder or GGUF file, run at `marks` in `dialect` on `prompt` where given.

    `at_end` asks for one of the last check, else it is one of the check at a mark. Raises `ConfigError` if
    it was made for the other place, another mark, dialect or prompt and `ModelError` if it was made
    for another model, does not fit it, or is not a whole adapter; one line that says what differs.
    """
    spec = read_spec(folder)
    if at_end and spec.mark is not None:
        raise ConfigError(
            f"the adapter {folder} was trained for mark {spec.mark}: the last check takes one that was"
            " trained with --mark end"
        )
    if not at_end and spec.mark is None:
        raise ConfigError(
            f"the adapter {folder} was trained for the end of trajectories: give it as vote.adapter, a"
            " check at a mark takes one that was trained for the mark"
        )
    if not {*marks} <= {*spec.marks}:
        known, asked = (" and ".join(map(str, each)) for each in (spec.marks, marks))
        raise ConfigError(
            f"the adapter {folder} was trained for mark {known}, this run checks at mark {asked}:"
            f" use prune.mark={spec.mark}, train one for mark {asked}, or choose another prune.scorer"
        )
    other = f"choose another {'vote.rule' if at_end else 'prune.scorer'}"
    if dialect is not None and dialect != spec.dialect:
        raise ConfigError(
            f"the adapter {folder} was trained for dialect {spec.dialect}, this run speaks {dialect}:"
            f" use model.dialect={spec.dialect} or {other}"
        )
    if prompt is not None and prompt != spec.prompt:
        raise ConfigError(
            f"the adapter {folder} was trained on prompt {spec.prompt}, this run uses {prompt}:"
            f" use model.prompt={spec.prompt} or {other}"
        )
    config = read_config(model_folder)
    hidden_size, vocab_size = config.get("hidden_size"), config.get("vocab_size")
    if hidden_size != spec.hidden_size:
        raise ModelError(
            f"the adapter {folder} is for a hidden size of {spec.hidden_size}, "
            f"the model {model_folder} has {hidden_size}"
        )
    check_ids(spec.stop_token_ids, int(vocab_size or 0))
    found = fingerprint(model_folder)
    if found != spec.fingerprint and not _is_rounded_base(model_folder, spec):
        raise ModelError(
            f"the adapter {folder} was trained on another base model ({spec.base_model}, fingerprint "
            f"{spec.fingerprint[:12]}) than {model_folder} (fingerprint {found[:12]})"
        )
    return LoadedAdapter(spec, _assemble(folder, spec), _read_probe(folder, spec))


def _is_rounded_base(model: Path, spec: StopSpec) -> bool:
    """Whether it is the adapter's base, rounded otherwise: it has its norms, and there is a score to compare.

    One of both is a GGUF file then: of two folders with the same norms, one may be a finetune of the other.
    """
    if not (is_gguf(model) or is_gguf(Path(spec.base_model))):
        return False
    return spec.handshake is not None and spec.norms == norms_fingerprint(model) is not None


def read_spec(folder: Path) -> StopSpec:
    """stop.json of an adapter folder. Raises `ModelError`."""
    path = folder / SPEC
    try:
        return StopSpec.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        hint = "it does not exist"
        if folder.is_dir():
            hint = f"it has no {SPEC}; checkpoints of the STOP authors need `convert` first"
        raise ModelError(f"{folder} is not a STOP adapter: {hint}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ModelError(f"{path} is not valid: {first_fault(error)}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file on the CPU; `ModelError` for anything else."""
    if not path.is_file():
        pickled = sorted(found.name for kind in _PICKLED for found in path.parent.glob(kind))
        reason = f"; {pickled[0]} may be pickled and is not read" if pickled else ""
        raise ModelError(f"{path.parent} has no {path.name}{reason}")
    with path.open("rb") as stream:
        start = stream.read(2)
    if start in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        raise ModelError(f"{path} is a pickle file under another name: it is not read")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is truncated or not safetensors: {error}") from None
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds values that are not finite")
    return tensors


def paths_of(peft_tensors: dict[str, Tensor], source: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """(A, B) by the path of the adapted layer, from PEFT's key names. Raises `ModelError`."""
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in peft_tensors.items():
        path, _, half = key.removeprefix(PEFT_PREFIX).removesuffix(".weight").rpartition(".")
        if not path or half not in ("lora_A", "lora_B") or tensor.ndim != 2:
            raise ModelError(f"{source}: {key} is not a LoRA matrix")
        halves.setdefault(path, {})[half] = tensor
    pairs = {}
    for path, pair in halves.items():
        if len(pair) != 2 or pair["lora_A"].shape[0] != pair["lora_B"].shape[1]:
            raise ModelError(f"{source}: the two LoRA matrices of {path} do not belong together")
        pairs[path] = (pair["lora_A"], pair["lora_B"])
    if not pairs:
        raise ModelError(f"{source} holds no LoRA matrices")
    return pairs


def build_adapter(
    spec: StopSpec, pairs: dict[str, tuple[Tensor, Tensor]], own: dict[str, Tensor], source: Path
) -> StopAdapter:
    """Put tensors into an adapter after checking every name and shape against `spec`."""
    for path, (a, _) in pairs.items():
        if a.shape[0] != spec.rank:
            raise ModelError(f"{source}: the rank at {path} is {a.shape[0]}, not {spec.rank}")
        if not any(f".{path}".endswith(f".{target}") for target in spec.targets):
            raise ModelError(f"{source}: {path} is none of the targets {', '.join(spec.targets)}")
    shapes = {path: (a.shape[1], b.shape[0]) for path, (a, b) in pairs.items()}
    adapter = StopAdapter(spec.stop_token_ids, spec.hidden_size, shapes, spec.rank, spec.alpha)
    expected = {name: tuple(tensor.shape) for name, tensor in _own_tensors(adapter).items()}
    given = {name: tuple(tensor.shape) for name, tensor in own.items()}
    for name in sorted(expected.keys() | given.keys()):
        if expected.get(name) != given.get(name):
            raise ModelError(
                f"{source}: {name} is {given.get(name, 'missing')}, not {expected.get(name, 'known')}"
            )
    with torch.no_grad():
        adapter.embeddings.copy_(own["embeddings"])
        adapter.head.weight.copy_(own["head.weight"])
        adapter.head.bias.copy_(own["head.bias"])
        for path, delta in adapter.delta_by_path.items():
            delta.lora_A.copy_(pairs[path][0])
            delta.lora_B.copy_(pairs[path][1])
    return adapter


def _assemble(folder: Path, spec: StopSpec) -> StopAdapter:
    pairs = paths_of(read_tensors(folder / PEFT_TENSORS), folder)
    return build_adapter(spec, pairs, read_tensors(folder / TENSORS), folder)


def _read_probe(folder: Path, spec: StopSpec) -> Head | None:
    if spec.probe is None:
        return None
    tensors = read_tensors(folder / PROBE)
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if given != {"weight": (spec.hidden_size,), "bias": ()}:
        raise ModelError(f"{folder / PROBE} holds {given}, not a probe's weight and bias")
    probe = Head(spec.hidden_size)
    probe.load_state_dict(tensors)
    return probe


def _peft_tensors(adapter: StopAdapter) -> dict[str, Tensor]:
    tensors = {}
    for path, delta in adapter.delta_by_path.items():
        tensors[f"{PEFT_PREFIX}{path}.lora_A.weight"] = _plain(delta.lora_A)
        tensors[f"{PEFT_PREFIX}{path}.lora_B.weight"] = _plain(delta.lora_B)
    return tensors


def _own_tensors(adapter: StopAdapter) -> dict[str, Tensor]:
    head = adapter.head
    tensors = {"embeddings": adapter.embeddings, "head.weight": head.weight, "head.bias": head.bias}
    return {name: _plain(tensor) for name, tensor in tensors.items()}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
