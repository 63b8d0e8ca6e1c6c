"""The default model of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from solver.stop.commands.libraries import quiet_transformers


def tiny_model(folder: Path, context_length: int) -> LlamaForCausalLM:
    """Save a small random Llama, the same in every process, and return it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=1024,
        max_position_embeddings=context_length,
    )
    quiet_transformers()
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return model
