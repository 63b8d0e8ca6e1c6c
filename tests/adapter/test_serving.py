"""Flags of a server with an adapter, scores read from answers, and the plugin where there is no vLLM."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from solver.adapter.vllm import plugin as vllm_plugin
from solver.adapter.vllm.serving import (
    BAN,
    RIGHT_ID,
    WRAPPED,
    WRONG_ID,
    adapter_folder,
    read_logit,
    server_flags,
)
from solver.errors import ModelError, ScorerError


def model_folder(folder: Path, *architectures: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": list(architectures)}))
    return folder


def flag(flags: list[str], name: str) -> str:
    return flags[flags.index(name) + 1]


@pytest.mark.parametrize("architecture", WRAPPED)
def test_flags_name_our_class_the_adapter_and_the_ban(architecture: str, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", architecture)
    flags = server_flags(tmp_path / "model" / ".." / "adapter", model)
    assert json.loads(flag(flags, "--hf-overrides")) == {"architectures": [f"Stop{architecture}"]}
    told = adapter_folder(json.loads(flag(flags, "--additional-config")))
    assert told == (tmp_path / "adapter").resolve()
    assert flag(flags, "--logits-processors") == BAN


@pytest.mark.parametrize("architectures", [(), ("Gemma3ForCausalLM", "LlamaForCausalLM")])
def test_other_architectures_are_refused(architectures: tuple[str, ...], tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", *architectures)
    with pytest.raises(ModelError, match="only for GptOssForCausalLM, LlamaForCausalLM"):
        server_flags(tmp_path, model)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model folder"):
        server_flags(tmp_path, tmp_path)


@pytest.mark.parametrize("settings", [None, {}, {"stop_adapter": 3}, {"other": "x"}])
def test_a_server_that_was_told_no_adapter_is_refused(settings: object) -> None:
    with pytest.raises(ModelError, match=r"--additional-config '\{\"stop_adapter\": \"FOLDER\"\}'"):
        adapter_folder(settings)


@pytest.mark.parametrize("logit", [-200.0, -3.5, 0.0, 1e-3, 42.0])
def test_a_score_is_read_from_two_logprobs(logit: float) -> None:
    right = -math.log1p(math.exp(-logit))
    top = {RIGHT_ID: right, WRONG_ID: right - logit}
    assert read_logit(top) == pytest.approx(logit)
    assert read_logit(top | {9: -math.inf}) == pytest.approx(logit)


@pytest.mark.parametrize(
    "top",
    [
        {},
        {WRONG_ID: -0.1},
        {WRONG_ID: 0.0, RIGHT_ID: -math.inf},  # no finite score
        {WRONG_ID: -0.7, RIGHT_ID: math.nan},
        {12: -0.2, 34: -1.7},  # a stock server
        {12: -0.2, WRONG_ID: -2.5, RIGHT_ID: -2.6},
        {WRONG_ID: -1.0, RIGHT_ID: -1.5, 7: -2.0},  # best by chance, among others
    ],
)
def test_an_answer_that_is_no_score_is_refused(top: dict[int, float]) -> None:
    with pytest.raises(ScorerError, match="without the STOP plugin or adapter"):
        read_logit(top)


def test_vllm_finds_the_plugin() -> None:
    [found] = entry_points(group="vllm.general_plugins", name="stop")
    assert found.load() is vllm_plugin.register


def test_importing_the_plugin_and_the_flags_loads_neither_torch_nor_vllm() -> None:
    check = (
        "import sys, solver.adapter.vllm.plugin, solver.adapter.vllm.serving;"
        "sys.exit(sorted({'torch', 'vllm', 'transformers'} & sys.modules.keys()) != [])"
    )
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_a_vllm_without_a_place_for_us_goes_on_without_us(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # its import fails
    with caplog.at_level(logging.WARNING):
        vllm_plugin.register()
    assert "STOP cannot be served by this vLLM" in caplog.text
