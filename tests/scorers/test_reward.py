"""Reward models as users have them: sequence and token classification, with and without a template."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from solver.errors import ModelError, ScorerError
from solver.scorers.reward import RewardScorer, batches, encode_steps, encode_text, right_label
from solver.scorers.texts import PromptShape, texts_of
from tests.scorers.conftest import written
from tests.support import byte_tokenizer
from tests.support.rig import DIALECT, TOKENIZER, ids

TEXTS = ("Let me count.\nOne two", "So\n\nit is 7", "x")


def bert(kind: Any, folder: Path, **changes: Any) -> Path:
    torch.manual_seed(1)
    settings = {
        "vocab_size": len(TOKENIZER),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 128,
        "initializer_range": 0.5,
        **changes,
    }
    kind(BertConfig(**settings)).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


async def score(folder: Path, *texts: str, deadline: float = math.inf) -> list[float]:
    scorer = RewardScorer(folder, DIALECT)
    await scorer.load()
    return await scorer.score([written(n, text) for n, text in enumerate(texts)], deadline)


@pytest.mark.parametrize("num_labels", [1, 2])
async def test_sequence_classification(tmp_path: Path, num_labels: int) -> None:
    folder = bert(BertForSequenceClassification, tmp_path, num_labels=num_labels)
    scores = await score(folder, *TEXTS)
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    for text, found in zip(TEXTS, scores, strict=True):
        message = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": text}]
        rendered = TOKENIZER.apply_chat_template(message, tokenize=False)
        logits = model(torch.tensor([ids(rendered)])).logits[0].tolist()
        expected = logits[0] if num_labels == 1 else logits[1] - logits[0]
        assert found == pytest.approx(expected, abs=1e-4)


async def test_decoder_models_read_the_last_token(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        num_labels=1,
        initializer_range=0.5,
    )
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    together = await score(tmp_path, *TEXTS)
    alone = [(await score(tmp_path, text))[0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len(set(together)) == 3


async def test_token_classification_takes_the_weakest_step(tmp_path: Path) -> None:
    folder = bert(BertForTokenClassification, tmp_path, num_labels=2)
    scores = await score(folder, *TEXTS)
    model = BertForTokenClassification.from_pretrained(folder).eval()
    opening = "<|user|>\n1+1?<|end|>\n<|assistant|>\n"
    said = ids(opening + "Let me count.\n" + "One two\n")
    logits = model(torch.tensor([said])).logits[0]
    margins = (logits[:, 1] - logits[:, 0]).tolist()
    ends = [len(ids(opening + "Let me count.\n")) - 1, len(said) - 1]
    assert scores[0] == pytest.approx(min(margins[end] for end in ends), abs=1e-4)


def test_encoding_without_a_chat_template() -> None:
    plain = byte_tokenizer()
    plain.chat_template = None
    assert encode_text(plain, ("Q", "A")) == ids("Q\n\nA")
    said, ends = encode_steps(plain, ("Q", "a\n \nb\n"))
    assert (said, ends) == (ids("Q\n\na\nb\n"), [4, 6])
    assert encode_steps(plain, ("Q", "")) == (ids("Q\n\n"), [2])


def test_statement_and_text_are_told_apart() -> None:
    trajectory = written(0, "It is <|end|> so", statement="How many?<|user|>")
    shape = PromptShape.of(DIALECT)
    [(statement, text)] = texts_of(DIALECT, shape, [trajectory.token_ids])
    assert (statement, text) == ("How many?<|user|>", "It is <|end|> so")


async def test_a_passed_deadline(tmp_path: Path) -> None:
    folder = bert(BertForSequenceClassification, tmp_path, num_labels=1)
    with pytest.raises(ScorerError, match="deadline"):
        await score(folder, "a", deadline=asyncio.get_running_loop().time() - 1)


async def test_a_prefix_that_is_too_long(tmp_path: Path) -> None:
    folder = bert(BertForSequenceClassification, tmp_path, num_labels=1)
    with pytest.raises(ScorerError, match="longer than the reward model's 128"):
        await score(folder, "a" * 200)


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Qwen2ForProcessRewardModel", None])
def test_other_architectures(tmp_path: Path, architecture: str | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    with pytest.raises(ModelError, match="not one of"):
        RewardScorer(tmp_path, DIALECT)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no reward model in"):
        RewardScorer(tmp_path / "none", DIALECT)


async def test_weights_are_missing(tmp_path: Path) -> None:
    folder = bert(BertForSequenceClassification, tmp_path, num_labels=1)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        await score(folder, "a")


def test_labels() -> None:
    here = Path("here")
    assert right_label(1, {}, here) is None
    assert right_label(2, {0: "LABEL_0", 1: "LABEL_1"}, here) == 1
    assert right_label(2, {0: "correct", 1: "incorrect"}, here) == 0
    with pytest.raises(ModelError, match="5 outputs"):
        right_label(5, {}, here)


def test_batches_are_of_like_lengths_and_bounded() -> None:
    lengths = [5000, 10, 20_000, 4000, 4000]
    assert list(batches(lengths)) == [[1, 3], [4], [0], [2]]
    assert list(batches([])) == []
