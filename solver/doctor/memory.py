"""How much memory a model and its KV cache need, from its config.json and its settings. In bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solver.config import SolverConfig

_PROMPT = 1024  # tokens of a problem and its instructions, generously
_CACHE_FLAG = "--kv-cache-dtype"
_PARALLEL_FLAGS = ("--tensor-parallel-size", "-tp")


@dataclass(frozen=True, slots=True)
class Need:
    """`least` holds the weights and one trajectory; `wanted` all those of a problem at once."""

    weights: int
    least: int
    wanted: int


def need(
    settings: Mapping[str, Any], weights: int, config: SolverConfig, *, on_cpu: bool
) -> Need | None:
    """The memory that the model needs; None if config.json does not say the shape of its cache.

    At a mark, all that go there hold a prefix; those kept at the last mark grow to their limit.
    """
    text = settings.get("text_config", settings)
    longest = config.model.context_length or text.get("max_position_embeddings")
    if not isinstance(longest, int) or _kv_width(text) is None:
        return None
    element = _element_bytes(config, on_cpu=on_cpu)
    prune = config.prune

    def cache(trajectories: int, tokens: int) -> int:
        return trajectories * element * _kv_elements(text, min(tokens, longest))

    alive = [prune.launch, *(keep for _, keep in prune.checks)]
    reached = [*(mark for mark, _ in prune.checks), config.sampling.max_tokens]
    most = max(cache(n, _PROMPT + tokens) for n, tokens in zip(alive, reached, strict=True))
    problems = config.budget.problems_at_once
    least = weights + cache(1, longest)
    return Need(weights, least, max(least, weights + problems * most))


def num_gpus(config: SolverConfig) -> int:
    """How many GPUs the settings use for one copy of the model."""
    if config.model.engine != "vllm":
        return 1
    for flag in _PARALLEL_FLAGS:
        if (value := _value(config.vllm.args, flag)) is not None and value.isdecimal():
            return int(value)
    return 1


def _kv_elements(text: Mapping[str, Any], tokens: int) -> int:
    """Elements of one trajectory's cache; a layer with a sliding window keeps only its window."""
    width = _kv_width(text) or 0
    layers: int = text["num_hidden_layers"]
    kinds = text.get("layer_types") or ["full_attention"] * layers
    window = text.get("sliding_window") or tokens
    kept = (min(tokens, window) if kind == "sliding_attention" else tokens for kind in kinds)
    return 2 * width * sum(kept)  # keys and values


def _kv_width(text: Mapping[str, Any]) -> int | None:
    """Elements of a key in one layer."""
    try:
        heads = text.get("num_key_value_heads") or text["num_attention_heads"]
        dim = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
        return int(heads) * int(dim) if text["num_hidden_layers"] else None
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def _element_bytes(config: SolverConfig, *, on_cpu: bool) -> int:
    if config.model.engine == "vllm":
        chosen = _value(config.vllm.args, _CACHE_FLAG) or "auto"
        if chosen.startswith("fp8"):
            return 1
    # 8 bits are for weights: the cache beside them is float32
    float32 = ("float32", "int8", *(["auto"] if on_cpu else []))
    return 4 if config.model.dtype in float32 else 2


def _value(args: Sequence[str], flag: str) -> str | None:
    """The value of a flag, as --flag value or --flag=value."""
    for index, word in enumerate(args):
        if word == flag and index + 1 < len(args):
            return args[index + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None
