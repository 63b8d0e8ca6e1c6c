from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from solver.adapter import folder as adapter_module
from solver.adapter.fingerprint import fingerprint
from solver.adapter.folder import load_adapter, save_adapter
from solver.adapter.gate import StopGate
from solver.adapter.score import score_prefixes
from solver.adapter.spec import StopSpec
from solver.doctor.weights import weights_bytes
from solver.errors import ConfigError, ModelError, UserError
from tests.support.tiny_models import STOP_IDS, loud_adapter, prefixes_of, tiny_model


def spec_for(model_folder: Path, **changes: Any) -> StopSpec:
    values: dict[str, Any] = {
        "base_model": "tiny",
        "fingerprint": fingerprint(model_folder),
        "hidden_size": 32,
        "stop_token_ids": STOP_IDS,
        "mark": 36,
        "dialect": "fenced",
        "prompt": "bare",
        "rank": 4,
        "alpha": 8.0,
        "targets": ("q_proj", "v_proj"),
    }
    return StopSpec(**{**values, **changes})


@pytest.fixture
def folder(tmp_path: Path, llama_folder: Path) -> Path:
    out = tmp_path / "adapter"
    save_adapter(out, loud_adapter(tiny_model("llama")), spec_for(llama_folder))
    return out


def test_a_round_trip_keeps_every_bit(folder: Path, llama_folder: Path) -> None:
    model = tiny_model("llama")
    original = loud_adapter(model)
    loaded = load_adapter(folder, llama_folder, marks=[36], dialect="fenced")
    assert loaded.spec == spec_for(llama_folder)
    ours, theirs = original.state_dict(), loaded.adapter.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    prefixes = prefixes_of(5, 8)
    with StopGate.attach(model, original) as gate:
        before = score_prefixes(model, gate, prefixes)
    with StopGate.attach(model, loaded.adapter) as gate:
        assert torch.equal(score_prefixes(model, gate, prefixes), before)


def test_the_same_adapter_is_the_same_bytes(
    folder: Path, tmp_path: Path, llama_folder: Path
) -> None:
    again = tmp_path / "again"
    save_adapter(again, loud_adapter(tiny_model("llama")), spec_for(llama_folder))
    names = sorted(file.name for file in folder.iterdir())
    assert names == [
        "adapter_config.json", "adapter_model.safetensors", "stop.json", "stop.safetensors"
    ]  # fmt: skip
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "again"]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_peft_reads_it_and_its_deltas_are_ours(folder: Path, llama_folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import PeftModel
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing.*")  # a key that PEFT did not find
        wrapped = PeftModel.from_pretrained(auto.from_pretrained(llama_folder), folder)
    adapter = loud_adapter(tiny_model("llama"))
    states = torch.randn(3, 32)
    layers = dict(wrapped.base_model.model.named_modules())
    adapted = [path for path, module in layers.items() if hasattr(module, "lora_A")]
    assert sorted(p for p in adapted if "." in p) == sorted(adapter.delta_by_path)
    for path, delta in adapter.delta_by_path.items():
        layer = layers[path]
        theirs = layer(states) - layer.base_layer(states)
        assert torch.allclose(theirs, delta(states), atol=1e-5)


def refuses(kind: type[UserError], words: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(kind, match=words) as caught:
        load_adapter(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_another_run_or_model_is_refused(
    folder: Path, llama_folder: Path, qwen2_folder: Path, tmp_path: Path
) -> None:
    refuses(
        ConfigError,
        "trained for mark 36, this run checks at mark 40",
        folder,
        llama_folder,
        marks=[40],
    )
    refuses(
        ConfigError,
        "dialect fenced, this run speaks harmony",
        folder,
        llama_folder,
        dialect="harmony",
    )
    refuses(
        ConfigError,
        "trained for mark 36: the last check takes one that was trained with --mark end",
        folder,
        llama_folder,
        at_end=True,
    )
    last = tmp_path / "last"
    shutil.copytree(folder, last)
    spec = json.loads((last / "stop.json").read_text())
    (last / "stop.json").write_text(json.dumps({**spec, "mark": None}))
    refuses(ConfigError, "for the end of trajectories: give it as vote.adapter", last, llama_folder)
    assert load_adapter(last, llama_folder, at_end=True).spec.marks == ()
    refuses(ModelError, "another base model .tiny, fingerprint", folder, qwen2_folder)
    refuses(ModelError, "not a model folder", folder, tmp_path)
    other = tmp_path / "other"
    shutil.copytree(llama_folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    refuses(ModelError, "hidden size of 32, the model .* has 64", folder, other)
    (other / "config.json").write_text(json.dumps({**config, "vocab_size": 38}))
    refuses(ModelError, "id 38 is beyond the model's vocabulary of 38", folder, other)


def edit_spec(folder: Path, **changes: Any) -> None:
    spec = json.loads((folder / "stop.json").read_text())
    (folder / "stop.json").write_text(json.dumps({**spec, **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "format_version"),
        ({"stop_token_ids": []}, "stop_token_ids"),
        ({"stop_token_ids": [36, 37]}, r"embeddings is \(4, 32\), not \(2, 32\)"),
        ({"rank": 8}, "rank at .* is 4, not 8"),
        ({"targets": ["q_proj"]}, "v_proj is none of the targets q_proj"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(
    folder: Path, llama_folder: Path, changes: dict[str, Any], words: str
) -> None:
    edit_spec(folder, **changes)
    refuses(ModelError, words, folder, llama_folder)


@pytest.mark.parametrize("name", ["stop.safetensors", "adapter_model.safetensors"])
def test_damaged_files_are_refused(folder: Path, llama_folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refuses(ModelError, "truncated or not safetensors", folder, llama_folder)
    torch.save({"weight": torch.zeros(1)}, path)
    refuses(ModelError, "pickle file under another name", folder, llama_folder)
    path.unlink()
    refuses(ModelError, f"has no {name}", folder, llama_folder)
    path.with_suffix(".bin").write_bytes(b"")
    refuses(ModelError, "may be pickled and is not read", folder, llama_folder)


def test_wrong_tensors_are_refused(folder: Path, llama_folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    key = next(iter(tensors))
    save_file({**tensors, "strange.weight": torch.zeros(2, 2)}, path)
    refuses(ModelError, "strange", folder, llama_folder)
    save_file({name: t for name, t in tensors.items() if name != key}, path)
    refuses(ModelError, "do not belong together", folder, llama_folder)
    save_file({**tensors, key: tensors[key] * float("nan")}, path)
    refuses(ModelError, "not finite", folder, llama_folder)


def test_no_adapter_is_refused(tmp_path: Path, llama_folder: Path) -> None:
    refuses(ModelError, "it does not exist", tmp_path / "nothing", llama_folder)
    refuses(ModelError, "need `convert` first", tmp_path, llama_folder)
    (tmp_path / "stop.json").write_text('{"format_')
    refuses(ModelError, "stop.json is not valid", tmp_path, llama_folder)


def test_saving_replaces_an_adapter_only(
    folder: Path, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = loud_adapter(tiny_model("llama"))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds other files"):
        save_adapter(precious, adapter, spec_for(llama_folder))
    save_adapter(folder, adapter, spec_for(llama_folder, mark=48))
    assert load_adapter(folder, llama_folder).spec.mark == 48

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adapter_module, "write_text", full_disk)
    with pytest.raises(ConfigError, match="No space left"):
        save_adapter(folder, adapter, spec_for(llama_folder))
    assert load_adapter(folder, llama_folder).spec.mark == 48
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "precious"]


def test_a_fingerprint_sees_weights_shapes_and_architecture(
    llama_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(llama_folder, copy)
    original = fingerprint(llama_folder)
    assert fingerprint(copy) == original
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(
        json.dumps({**config, "use_cache": False, "dtype": "bfloat16"})
    )
    assert fingerprint(copy) == original
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert fingerprint(copy) != original
    (copy / "config.json").write_text(json.dumps(config))
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert fingerprint(copy) != original
    for broken, why in {
        b"": "header is longer",
        bytes(content[:20]): "header is longer",
        (2).to_bytes(8, "little") + b"[]": "not a JSON object",
        (2).to_bytes(8, "little") + b"{'": "double quotes",
    }.items():
        weights.write_bytes(broken)
        with pytest.raises(ModelError, match=f"not a whole safetensors file.*{why}"):
            fingerprint(copy)
        with pytest.raises(ModelError, match=f"not a whole safetensors file.*{why}"):
            weights_bytes(copy)
    weights.unlink()
    with pytest.raises(ModelError, match=r"no \*.safetensors weights"):
        fingerprint(copy)
