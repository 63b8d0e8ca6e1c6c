"""Writes a model, and a byte tokenizer with it, as a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import pre_tokenizers

from tests.support import CHAT_TEMPLATE

_SPECIALS = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5
PAD, END = 256, 257


def vocabulary(size: int) -> list[str]:
    """One id a byte, then the special tokens, a merged pair, and what fills it up."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *_SPECIALS, "ab"]
    return [*tokens, *(f"[PAD{n}]" for n in range(len(tokens), size))][:size]


def write_gguf(
    path: Path,
    model: Any,
    kind: Any = gguf.GGMLQuantizationType.F32,
    parts: int = 1,
    fields: dict[str, Any] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Path:
    """`model` as a GGUF file, matrices packed as `kind`, or as several parts; returns the first one.

    `renamed` gives special tokens other texts.
    """
    arch = model.config.model_type
    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch)
    names = gguf.get_tensor_name_map(number, model.config.num_hidden_layers)
    tensors = [
        (name, tensor)
        for name, tensor in model.state_dict().items()
        if not (model.config.tie_word_embeddings and name == "lm_head.weight")
    ]
    size = -(-len(tensors) // parts)
    paths = []
    for part in range(parts):
        target = path
        if parts > 1:
            target = path.with_name(f"{path.stem}-{part + 1:05}-of-{parts:05}.gguf")
        writer = gguf.GGUFWriter(target, arch)
        if part == 0:
            _write_fields(writer, model.config, fields or {}, renamed or {})
        for name, tensor in tensors[part * size : (part + 1) * size]:
            stem, suffix = name.rsplit(".", 1)
            values = _as_llama_cpp(name, tensor.float().numpy(), model.config)
            label = f"{names.get_name(stem)}.{suffix}"
            if values.ndim == 2 and kind is not gguf.GGMLQuantizationType.F32:
                writer.add_tensor(label, gguf.quantize(values, kind), raw_dtype=kind)
            else:
                writer.add_tensor(label, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(target)
    return paths[0]


def _write_fields(
    writer: Any, settings: Any, fields: dict[str, Any], renamed: Mapping[str, str]
) -> None:
    writer.add_name("tiny")
    writer.add_block_count(settings.num_hidden_layers)
    writer.add_context_length(settings.max_position_embeddings)
    writer.add_embedding_length(settings.hidden_size)
    writer.add_feed_forward_length(settings.intermediate_size)
    writer.add_head_count(settings.num_attention_heads)
    writer.add_head_count_kv(settings.num_key_value_heads)
    writer.add_layer_norm_rms_eps(settings.rms_norm_eps)
    writer.add_rope_freq_base(settings.rope_parameters["rope_theta"])
    if getattr(settings, "head_dim", None):
        writer.add_key_length(settings.head_dim)
    tokens = vocabulary(settings.vocab_size)
    types = [
        _CONTROL if token in _SPECIALS else _UNUSED if token.startswith("[PAD") else _NORMAL
        for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([renamed.get(token, token) for token in tokens])
    writer.add_token_types(types)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_chat_template(CHAT_TEMPLATE)
    for key, value in fields.items():
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        add(key, value)


def _as_llama_cpp(name: str, values: Any, settings: Any) -> Any:
    """The rows of a Llama's query and key layers in llama.cpp's order."""
    heads = {"q_proj": settings.num_attention_heads, "k_proj": settings.num_key_value_heads}
    layer = name.split(".")[-2]
    if settings.model_type != "llama" or layer not in heads:
        return values
    shape = values.shape
    halves = values.reshape(heads[layer], 2, shape[0] // heads[layer] // 2, *shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(shape))
