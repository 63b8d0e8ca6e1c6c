"""Any local chat model is served by the same code: here tiny random ones, which answer nothing sensible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from solver.run import main
from tests.support import byte_tokenizer


@pytest.mark.parametrize("architecture", ["Qwen2", "Mistral"])
def test_a_model_of_ones_own(
    architecture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = byte_tokenizer()
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
        sliding_window=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, f"{architecture}ForCausalLM")(config)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    problems = tmp_path / "p.jsonl"
    problems.write_text('{"id": "a", "question": "1+1?", "answer": 2}\n')
    code = main([
        str(problems), "--model", str(tmp_path / "model"), "--output", str(tmp_path / "a.csv"),
        "--run-dir", str(tmp_path / "run"), "--launch", "3", "--keep", "2", "--mark", "10",
        "--set", "sampling.max_tokens=40",
    ])  # fmt: skip
    assert code == 0, capsys.readouterr().err
    assert (tmp_path / "a.csv").read_text().startswith("id,answer\na,")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["sampled_tokens"] >= 30
    assert summary["scorer"] == "confidence"
    assert not any("outside" in why for reasons in summary["degraded"].values() for why in reasons)
