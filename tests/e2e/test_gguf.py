"""A run on a GGUF file, a STOP adapter for it, and files that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from solver.engines.tokenizer import load_tokenizer
from solver.report.source import RunSource
from solver.run import main
from solver.scorers import folders
from solver.stop.__main__ import main as stop
from tests.support.gguf_files import write_gguf

WORDS = 280


def _model(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=WORDS, hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    torch.nn.init.normal_(model.model.norm.weight, mean=1.0, std=0.1)
    return model.bfloat16()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", _model(), gguf.GGMLQuantizationType.Q8_0)


def _run(tmp_path: Path, model: Path, name: str, *flags: str) -> int:
    problems = tmp_path / "p.jsonl"
    problems.write_text('{"id": "a", "question": "1+1?", "answer": 2}\n')
    return main([
        str(problems), "--model", str(model), "--output", str(tmp_path / f"{name}.csv"),
        "--run-dir", str(tmp_path / name), "--launch", "3", "--keep", "2", "--mark", "10",
        "--set", "sampling.max_tokens=20", *flags,
    ])  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_a_run(tmp_path: Path, model: Path, dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = _run(tmp_path, model, "run", "--set", f"model.dtype={dtype}")
    assert code == 0, capsys.readouterr().err
    assert (tmp_path / "run.csv").read_text().startswith("id,answer\na,")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["sampled_tokens"] >= 30
    assert RunSource(tmp_path / "run").decoder.texts([[65, 256]]) == ["b<|pad|>"]


def _adapter(tmp_path: Path, base: Path, prompt: str = "tools") -> str:
    rows = [
        {
            "problem_id": f"p{number // 4}",
            "prefix_token_ids": [number % 7 + 1] * 12,
            "soft_label": float(number % 2),
        }
        for number in range(32)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = stop([
        "train", str(data), "--base", str(base), "--out", str(tmp_path / "adapter"), "--mark", "10",
        "--prompt", prompt, "--epochs", "1", "--rank", "2", "--auroc-floor", "0", "--device", "cpu",
        "--quiet",
    ])  # fmt: skip
    assert code == 0
    return f"prune.adapter={tmp_path / 'adapter'}"


@pytest.mark.parametrize(
    ("base", "dtype"), [("gguf", "int8"), ("gguf", "float32"), ("folder", "int8")]
)
def test_an_adapter_of_the_file_or_of_its_original_prunes(
    tmp_path: Path, model: Path, base: str, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on = model
    if base == "folder":
        trained_on = tmp_path / "folder"
        _model().save_pretrained(trained_on)
        load_tokenizer(model).save_pretrained(trained_on)
    adapter = _adapter(tmp_path, trained_on)
    flags = ["--scorer", "stop", "--set", adapter, "--set", f"model.dtype={dtype}"]
    code = _run(tmp_path, model, "run", *flags)
    assert code == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["scorer"] == "stop"

    capsys.readouterr()
    other = write_gguf(tmp_path / "other.gguf", _model(seed=1))
    assert _run(tmp_path, other, "second", *flags) == 2
    assert "another base model" in capsys.readouterr().err


def test_a_shipped_adapter_is_found_with_its_preset_for_the_file_and_its_original(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = tmp_path / "original"
    _model().save_pretrained(original)
    load_tokenizer(model).save_pretrained(original)
    other = write_gguf(tmp_path / "other.gguf", _model(seed=1))
    monkeypatch.setattr(folders, "SHIPPED", tmp_path / "shipped")
    assert _run(tmp_path, model, "before", "--scorer", "stop") == 2
    assert "--set prune.adapter=FOLDER" in capsys.readouterr().err
    for base, made in (("qwen3", other), ("qwen2.5-coder-0.5b", model)):
        _adapter(tmp_path, made, "code")
        (tmp_path / "shipped" / base).mkdir(parents=True)
        (tmp_path / "adapter").rename(tmp_path / "shipped" / base / "stop")
    for number, path in enumerate((model, original)):
        code = _run(tmp_path, path, f"run{number}")
        assert code == 0, capsys.readouterr().err
        assert _chosen(tmp_path / f"run{number}") == ("code", "stop")
    assert _run(tmp_path, model, "general", "--preset", "general") == 0
    assert _chosen(tmp_path / "general") == ("tools", "confidence")
    third = write_gguf(tmp_path / "third.gguf", _model(seed=2))
    assert _run(tmp_path, third, "third", "--scorer", "stop") == 2
    assert "--set prune.adapter=FOLDER" in capsys.readouterr().err
    assert _run(tmp_path, third, "third") == 0
    assert _chosen(tmp_path / "third") == ("tools", "confidence")


def test_a_finetune_that_a_shipped_adapter_is_found_for_is_told_what_to_do(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = tmp_path / "shipped"
    monkeypatch.setattr(folders, "SHIPPED", shipped)
    _adapter(tmp_path, model, "code")
    (shipped / "qwen2.5-coder-0.5b").mkdir(parents=True)
    (tmp_path / "adapter").rename(shipped / "qwen2.5-coder-0.5b/stop")
    # a finetune has its base's norms: what tells them apart is the score of the stored prefix
    spec = shipped / "qwen2.5-coder-0.5b/stop/stop.json"
    told = json.loads(spec.read_text())
    told["handshake"]["logit"] += 5
    spec.write_text(json.dumps(told))
    assert _run(tmp_path, model, "refused") == 2
    assert "choose another adapter, or another scorer" in capsys.readouterr().err
    assert _run(tmp_path, model, "told", "--scorer", "confidence") == 0
    assert _chosen(tmp_path / "told") == ("code", "confidence")


def _chosen(run: Path) -> tuple[str, str]:
    config = json.loads((run / "config.json").read_text())
    return config["model"]["prompt"], config["prune"]["scorer"]


def test_an_adapter_of_a_folder_fits_no_finetune_of_it(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("base", 0), ("finetune", 1)):
        made = _model(seed)
        made.model.norm.weight.data.copy_(_model().model.norm.weight)
        made.save_pretrained(tmp_path / name)
        load_tokenizer(model).save_pretrained(tmp_path / name)
    flags = ["--scorer", "stop", "--set", _adapter(tmp_path, tmp_path / "base")]
    assert _run(tmp_path, tmp_path / "base", "first", *flags) == 0, capsys.readouterr().err
    assert _run(tmp_path, tmp_path / "finetune", "second", *flags) == 2
    assert "another base model" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--engine", "vllm"]])
def test_a_file_that_cannot_be_used_is_one_line(
    tmp_path: Path, model: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if not flags:
        model.write_bytes(model.read_bytes()[:-1000])
    assert _run(tmp_path, model, "run", *flags) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and "tiny.gguf" in errors
    assert not (tmp_path / "run").exists()
