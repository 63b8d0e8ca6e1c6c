"""A tiny causal model with a byte tokenizer on disk, trajectories over it, reward models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from solver.types import StopReason, Trajectory, Turn
from tests.support import byte_tokenizer
from tests.support.rig import DIALECT, ids


def save_tiny_model(folder: Path) -> Path:
    """A random model that a byte tokenizer goes with."""
    torch.manual_seed(3)
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def written(index: int, text: str, statement: str = "1+1?", **turn: Any) -> Trajectory:
    """A trajectory that stands at the mark, having written `text`."""
    said = ids(text)
    values = {"logprobs": [-0.1 * (1 + n % 3) for n in range(len(said))], **turn}
    return Trajectory(
        "p",
        index,
        0,
        tuple(DIALECT.prompt(statement)),
        [Turn(token_ids=said, **values)],
        StopReason.MARK,
    )
