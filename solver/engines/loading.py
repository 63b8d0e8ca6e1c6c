"""From a model folder or GGUF file to a model on its device, or one line that says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open

from sandbox.usage import available_memory
from solver.config import ModelConfig
from solver.engines.arena import CacheShape
from solver.engines.gguf_model import fill, gguf_settings
from solver.engines.int8 import available as int8_available
from solver.engines.int8 import quantise
from solver.engines.threads import in_own_thread
from solver.errors import ModelError, first_line
from solver.files.gguf import GgufFile, is_gguf

# decoder-only, full attention, no bias, softcap or sink in it: what `packed_attention` computes
SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")
INT8_FROM = 200_000_000  # parameters: below, the layers are so small that 8 bits gain little
_ELSE = "use the vLLM engine for it"
_CPU_SHARE, _CUDA_SHARE = 0.5, 0.8  # of the memory that is free once the model is loaded


def load_model(config: ModelConfig) -> Any:
    """The causal language model of a local folder or GGUF file, in eval mode. Raises `ModelError`."""
    return in_own_thread(_load, config)


def _load(config: ModelConfig) -> Any:
    path, device = Path(config.path), _device(config.device)
    with _silence():
        load = _load_gguf if is_gguf(path) else _load_folder
        model = load(path, config, device)
    try:
        return model.eval().requires_grad_(False).to(device)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{path} does not fit into the memory of {device}: choose a smaller model, or model.device=cpu"
        ) from error


def _load_gguf(path: Path, config: ModelConfig, device: torch.device) -> Any:
    file = GgufFile(path)
    settings = gguf_settings(file)
    check_architecture(settings, config.context_length)
    dtype = _dtype(config.dtype, device, settings)
    return fill(file, settings, None if dtype == "int8" else getattr(torch, dtype))


def _load_folder(folder: Path, config: ModelConfig, device: torch.device) -> Any:
    _check_files(folder)
    try:
        settings = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise ModelError(f"{folder}/config.json cannot be used: {first_line(error)}") from error
    check_architecture(settings, config.context_length)
    dtype = _dtype(config.dtype, device, settings)
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            config=settings,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            # to 8 bits from what the files hold: float32 beside it would take twice the memory
            dtype="auto" if dtype == "int8" else getattr(torch, dtype),
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(
            f"the weights in {folder} cannot be loaded: {first_line(error)}; "
            "save or download the model again"
        ) from error
    model, report = loaded
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(
            f"the weights in {folder} lack {len(report['missing_keys'])} tensors ({some}, ...): "
            "save or download the model again"
        )
    return quantise(model) if dtype == "int8" else model


def _dtype(wanted: str, device: torch.device, settings: Any) -> str:
    """What to compute in. Raises `ModelError` for 8 bits where they cannot be had."""
    has_int8 = device.type == "cpu" and int8_available()
    if wanted == "int8" and not has_int8:
        raise ModelError(
            "dtype int8 needs a CPU and a torch with x86 kernels: choose float32 or bfloat16"
        )
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16"
    return "int8" if has_int8 and _num_parameters(settings) > INT8_FROM else "float32"


def _num_parameters(settings: Any) -> int:
    auto: Any = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(settings)
    return sum(parameter.numel() for parameter in model.parameters())


def check_architecture(settings: Any, context_length: int | None) -> int:
    """The context length to use for a transformers config, or `ModelError` if we cannot serve it."""
    kind = settings.model_type
    if kind not in SUPPORTED:
        raise ModelError(
            f"the in-process engine runs {', '.join(SUPPORTED)} models, not {kind}: {_ELSE}"
        )
    longest: int = settings.max_position_embeddings
    if context_length is not None and context_length > longest:
        raise ModelError(
            f"context_length {context_length} is more than the model's {longest}: lower it"
        )
    length = context_length or longest
    window = getattr(settings, "sliding_window", None)
    kinds = getattr(settings, "layer_types", None) or ["sliding_attention"]
    if window is not None and window < length and "sliding_attention" in kinds:
        raise ModelError(
            f"the model attends to a sliding window of {window} tokens, which the in-process "
            f"engine does not: set context_length to {window} or less, or {_ELSE}"
        )
    rope = (getattr(settings, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        # its frequencies depend on the longest sequence of a step, so rows would change each other
        raise ModelError(f"the in-process engine does not support {rope} rotary scaling: {_ELSE}")
    return length


def cache_shape(model: Any) -> CacheShape:
    """What one cached token of a model is made of."""
    settings = model.config
    dim = getattr(settings, "head_dim", None)
    return CacheShape(
        layers=settings.num_hidden_layers,
        kv_heads=settings.num_key_value_heads,
        head_dim=dim or settings.hidden_size // settings.num_attention_heads,
        dtype=model.dtype,
        device=model.device,
    )


def default_max_tokens(shape: CacheShape) -> int:
    """How many tokens to cache by default: a share of the memory that is free now."""
    if shape.device.type == "cuda":
        free = _CUDA_SHARE * torch.cuda.mem_get_info(shape.device)[0]
    else:
        free = _CPU_SHARE * available_memory()
    return max(1, int(free / shape.bytes_per_token))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ModelError(f"device {name!r} is not available ({found} CUDA devices): use cpu")
    elif device.type != "cpu":
        raise ModelError(f"device {name!r} is not supported: use auto, cpu, cuda or cuda:N")
    return device


def _check_files(folder: Path) -> None:
    """Name the missing or broken file before transformers is asked to guess."""
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist: give the path of a local folder")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json: give the folder of a saved model")
    weights = [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = {str(n) for n in json.loads(index.read_text())["weight_map"].values()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index} is corrupt: download the model again") from error
        weights = [folder / name for name in sorted(names)]
    for path in weights:
        if not path.is_file():
            raise ModelError(f"{folder} has no {path.name}: weights must be in safetensors files")
        _check_safetensors(path)


def _check_safetensors(path: Path) -> None:
    try:
        with safe_open(path, framework="pt"):  # reads the header and compares it with the size
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is corrupt or incomplete: save or download it again ({first_line(error)})"
        ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off the terminal while a model loads."""
    logging: Any = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
