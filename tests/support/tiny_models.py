"""Tiny random models of every supported architecture, and an adapter that changes a lot."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from solver.adapter.gate import StopAdapter

VOCABULARY = 40
STOP_IDS = (36, 37, 38, 39)
ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "gpt_oss")

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
# The sliding windows are shorter than the prefixes of the tests.
_CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**_COMMON, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**{k: v for k, v in _COMMON.items() if k != "head_dim"}),
    "qwen3": lambda: Qwen3Config(**_COMMON),
    "mistral": lambda: MistralConfig(**_COMMON, sliding_window=6),
    "gpt_oss": lambda: GptOssConfig(
        **_COMMON,
        sliding_window=6,
        num_local_experts=4,
        num_experts_per_tok=2,
        layer_types=["sliding_attention", "full_attention"],
    ),
}


@cache
def tiny_model(architecture: str, dtype: torch.dtype = torch.float32) -> Any:
    """A frozen random model; shared, so a test that attaches a gate detaches it."""
    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(_CONFIGS[architecture]())
    return model.to(dtype).eval().requires_grad_(False)


def loud_adapter(model: Any, stop_ids: tuple[int, ...] = STOP_IDS, **options: Any) -> StopAdapter:
    """An adapter whose deltas, embeddings and head are far from zero."""
    adapter = StopAdapter.fresh(model, stop_ids, **{"rank": 4, "seed": 1, **options})
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        for delta in adapter.delta_by_path.values():
            delta.lora_B.copy_(torch.randn(delta.lora_B.shape, generator=generator) * 0.3)
        weight = adapter.head.weight
        weight.copy_(torch.randn(weight.shape, generator=generator) / len(weight) ** 0.5)
        adapter.head.bias.fill_(0.3)
    return adapter


def prefixes_of(*lengths: int) -> list[list[int]]:
    """Prefixes of given lengths, without [STOP] ids, all different."""
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(2, 36, (length,), generator=generator).tolist() for length in lengths]


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory, "llama")


@pytest.fixture(scope="session")
def qwen2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory, "qwen2")


def saved(factory: pytest.TempPathFactory, architecture: str) -> Path:
    folder = factory.mktemp("models") / architecture
    tiny_model(architecture).save_pretrained(folder)
    return folder
