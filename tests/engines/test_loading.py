"""A folder that cannot be served is refused in one line that says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, GPT2Config

from solver.config import ModelConfig
from solver.engines.loading import check_architecture, load_model
from solver.engines.transformers import load
from solver.errors import ModelError
from tests.engines.helpers import CONTEXT, greedy, prompt, say, tiny_config, tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model("llama").save_pretrained(tmp_path)
    return tmp_path


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(ModelConfig(path=str(folder), **{"device": "cpu"} | options))
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_a_good_folder(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with load(ModelConfig(path=str(folder), device="cpu", threads=1)) as engine:
        assert (engine.capabilities.context_length, engine.capabilities.dtype) == (
            CONTEXT,
            "float32",
        )
        assert len((await say(engine, "a", prompt(5), greedy(3))).ids) == 3
    assert capfd.readouterr() == ("", "")


async def test_the_bound_limits_the_context(folder: Path) -> None:
    config = ModelConfig(path=str(folder), device="cpu", max_cached_tokens=100, context_length=200)
    async with load(config) as engine:
        assert engine.capabilities.context_length == 96  # whole blocks


def test_missing_files(tmp_path: Path, folder: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json" in refusal(folder)


def test_broken_files(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"x" * 100):
        weights.write_bytes(broken)
        assert "corrupt or incomplete" in refusal(folder)
    weights.write_bytes(whole)
    index = folder / "model.safetensors.index.json"
    index.write_text("{}")
    assert "index" in refusal(folder)
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert "model-1.safetensors" in refusal(folder)
    index.unlink()
    (folder / "config.json").write_text("{")
    assert "config.json" in refusal(folder)


def test_missing_and_misshapen_tensors(folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    fewer = {name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}
    save_file(fewer, weights, metadata={"format": "pt"})
    assert "lack 3 tensors" in refusal(folder)
    tensors["model.norm.weight"] = torch.ones(3)
    save_file(tensors, weights, metadata={"format": "pt"})
    assert "cannot be loaded" in refusal(folder)


def test_devices(folder: Path) -> None:
    assert "not supported" in refusal(folder, device="mps")
    assert "unknown device" in refusal(folder, device="gpu?")
    assert "not available" in refusal(folder, device="cuda:99")


def test_context_beyond_the_model(folder: Path) -> None:
    assert "lower it" in refusal(folder, context_length=CONTEXT + 1)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (GPT2Config(), "gpt2"),
        (Gemma2Config(), "gemma2"),
        (tiny_config("mistral", sliding_window=100), "sliding window of 100"),
        (
            tiny_config("qwen2", use_sliding_window=True, sliding_window=99, max_window_layers=1),
            "99",
        ),
        (
            tiny_config(
                "llama",
                rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
            ),
            "dynamic",
        ),
    ],
)
def test_models_that_are_not_full_attention(config: Any, reason: str) -> None:
    with pytest.raises(ModelError, match="vLLM") as caught:
        check_architecture(config, None)
    assert reason in str(caught.value)


def test_a_window_that_is_never_reached_is_fine() -> None:
    assert check_architecture(tiny_config("mistral", sliding_window=100), 100) == 100
    assert check_architecture(tiny_config("mistral", sliding_window=4096), None) == CONTEXT
    sliding_off = tiny_config("qwen2", sliding_window=9, use_sliding_window=False)
    assert check_architecture(sliding_off, None) == CONTEXT


def test_the_package_imports_no_torch() -> None:
    code = (
        "import sys, solver.engines, solver.engines.scripted\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
