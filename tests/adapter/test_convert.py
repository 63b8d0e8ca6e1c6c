from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from solver.adapter.convert import convert
from solver.adapter.folder import load_adapter
from solver.adapter.gate import StopGate
from solver.adapter.score import score_prefixes
from solver.errors import ModelError
from tests.support.tiny_models import prefixes_of, tiny_model

TOKEN_ID, REPEATS = 37, 4

# PEFT reads a property that transformers renames in its next major version.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def load_base(folder: Path) -> Any:
    auto: Any = AutoModelForCausalLM
    return auto.from_pretrained(folder)


@pytest.fixture
def checkpoint(tmp_path: Path, qwen2_folder: Path) -> Path:
    """A checkpoint in the authors' layout with random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import LoraConfig, get_peft_model

    folder = tmp_path / "theirs"
    torch.manual_seed(5)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], lora_dropout=0.05)
    model = get_peft_model(load_base(qwen2_folder), config, adapter_name="classifier")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder / "adapter", selected_adapters=["classifier"])
    torch.save(torch.nn.Linear(32, 2).state_dict(), folder / "classifier_head.pth")
    embedding = {
        "assess_token": "<assess>",
        "special_token_id": TOKEN_ID,
        "input_embedding": torch.randn(32),
        "output_embedding": torch.randn(32),
    }
    torch.save(embedding, folder / "assess_token_embedding.pth")
    token = {"assess_token": "<assess>", "special_token_id": TOKEN_ID, "num_assess_tokens": REPEATS}
    (folder / "assess_token_config.json").write_text(json.dumps(token))
    return folder


def original_score(checkpoint: Path, base: Path, prefix: list[int]) -> float:
    """An independent reading of the checkpoint: P(right) by PEFT and a plain forward."""
    from peft import PeftModel

    cache = DynamicCache()
    plain = load_base(base).eval()
    embedding = torch.load(checkpoint / "assess_token_embedding.pth", weights_only=True)
    head = torch.nn.Linear(32, 2)
    head.load_state_dict(torch.load(checkpoint / "classifier_head.pth", weights_only=True))
    with torch.no_grad():
        plain(input_ids=torch.tensor([prefix]), past_key_values=cache)
        adapted = PeftModel.from_pretrained(
            load_base(base), checkpoint / "adapter" / "classifier", adapter_name="classifier"
        ).eval()
        output = adapted(
            inputs_embeds=embedding["input_embedding"].expand(1, REPEATS, 32),
            past_key_values=cache,
            output_hidden_states=True,
        )
        return float(head(output.hidden_states[-1][0, -1]).softmax(-1)[1])


def test_scores_are_those_of_the_original(
    checkpoint: Path, qwen2_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ours"
    spec = convert(checkpoint, qwen2_folder, out, mark=64, base_name="tiny qwen")
    assert spec.stop_token_ids == (TOKEN_ID,) * REPEATS and spec.mark == 64
    assert (spec.rank, spec.alpha, spec.targets) == (4, 8.0, ("q_proj", "v_proj"))
    loaded = load_adapter(out, qwen2_folder)
    assert loaded.adapter.embeddings.shape == (1, 32)
    model, prefixes = tiny_model("qwen2"), prefixes_of(4, 9, 15)
    with StopGate.attach(model, loaded.adapter) as gate:
        scores = score_prefixes(model, gate, prefixes).sigmoid()
    expected = [original_score(checkpoint, qwen2_folder, prefix) for prefix in prefixes]
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 1e-3


def test_the_adapter_may_lie_in_adapter_itself(
    checkpoint: Path, qwen2_folder: Path, tmp_path: Path
) -> None:
    for file in (checkpoint / "adapter" / "classifier").iterdir():
        file.rename(checkpoint / "adapter" / file.name)
    spec = convert(checkpoint, qwen2_folder, tmp_path / "ours", stop_token_id=39)
    assert spec.stop_token_ids == (39,) * REPEATS and spec.mark == 2048


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code from a pickle ran",))


def test_bad_checkpoints_are_refused(
    checkpoint: Path, qwen2_folder: Path, llama_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "ours"

    def refused(words: str, base: Path = qwen2_folder) -> None:
        with pytest.raises(ModelError, match=words) as caught:
            convert(checkpoint, base, out)
        assert "\n" not in str(caught.value)
        assert not out.exists()

    head = checkpoint / "classifier_head.pth"
    whole = head.read_bytes()
    torch.save({"weight": Evil()}, head)
    refused("holds more than tensors")
    assert "ran" not in capsys.readouterr().out
    head.write_bytes(whole[: len(whole) // 2])
    refused("truncated or not a torch file")
    head.write_bytes(b"")
    refused("truncated or not a torch file")
    torch.save({"weight": [1.0, 2.0]}, head)
    refused("not one linear layer with two classes")
    torch.save(torch.nn.Linear(32, 3).state_dict(), head)
    refused("not one linear layer with two classes")
    head.unlink()
    refused("has no classifier_head.pth")
    head.write_bytes(whole)

    token = checkpoint / "assess_token_config.json"
    token.write_text(json.dumps({"special_token_id": 40, "num_assess_tokens": 1}))
    refused("id 40 is beyond the model's vocabulary of 40 ids")
    token.write_text(json.dumps({"special_token_id": TOKEN_ID, "num_assess_tokens": 0}))
    refused("num_assess_tokens is a number from 1 on, not 0")
    token.write_text(json.dumps({"special_token_id": TOKEN_ID, "num_assess_tokens": None}))
    refused("num_assess_tokens is a number from 1 on, not None")
    token.write_text("{")
    refused("cannot be read as JSON")
    token.write_text(json.dumps({"special_token_id": TOKEN_ID}))
    config = checkpoint / "adapter" / "classifier" / "adapter_config.json"
    options = json.loads(config.read_text())
    config.write_text(json.dumps({**options, "use_dora": True}))
    refused("use_dora = True is not supported")


def test_a_checkpoint_of_another_model_is_refused(
    checkpoint: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path / "narrow"
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=40, hidden_size=32, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(base)
    with pytest.raises(ModelError, match=r"changes model\.layers\.1"):
        convert(checkpoint, base, tmp_path / "ours")
