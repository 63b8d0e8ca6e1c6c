"""GGUF files that the test writes: the model in them, their tokenizer, and those that are broken."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from solver.adapter.fingerprint import fingerprint, read_config
from solver.adapter.ids import find_stop_ids
from solver.adapter.norms import norms_fingerprint
from solver.cli.extras import install
from solver.config import ModelConfig
from solver.engines import int8
from solver.engines.loading import load_model
from solver.engines.tokenizer import generation_stop_ids, load_tokenizer
from solver.engines.transformers import TransformersEngine
from solver.errors import ModelError
from solver.files import gguf as files
from solver.files.gguf import GgufFile
from solver.types import SamplingParams
from tests.engines.helpers import next_logits, prompt, tiny_model
from tests.support import CHAT_TEMPLATE, byte_tokenizer
from tests.support.gguf_files import END, PAD, vocabulary, write_gguf

WORDS = 280  # bytes, special tokens, and some that only fill up


def _model(kind: str, **changes: Any) -> Any:
    return tiny_model(kind, **{"vocab_size": WORDS, **changes})


def _load(path: Path, dtype: Any = "float32") -> Any:
    return load_model(ModelConfig(path=str(path), device="cpu", dtype=dtype))


def _same(one: Any, other: Any) -> bool:
    ids = prompt(20)
    return torch.allclose(next_logits(one, ids), next_logits(other, ids), atol=1e-4)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_file_holds_the_model(tmp_path: Path, kind: str, tied: bool) -> None:
    model = _model(kind, tie_word_embeddings=tied)
    loaded = _load(write_gguf(tmp_path / "tiny.gguf", model))
    assert loaded.dtype == torch.float32
    assert _same(loaded, model)


def test_a_llama_with_biases_and_stretched_positions(tmp_path: Path) -> None:
    factors = np.linspace(1, 8, 8, dtype=np.float32)
    model = _model("llama", attention_bias=True)
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.q_proj.bias)
        torch.nn.init.normal_(layer.self_attn.k_proj.bias)
    assert _same(_load(write_gguf(tmp_path / "tiny.gguf", model)), model)
    model.register_buffer("rope_freqs", torch.from_numpy(factors))
    path = _with_tensor(tmp_path / "long.gguf", model, "rope_freqs.weight", factors)
    model.model.rotary_emb.inv_freq /= torch.from_numpy(factors)
    assert _same(_load(path), model)


def _with_tensor(path: Path, model: Any, name: str, values: Any) -> Path:
    """A file in two parts, the second of which has one more tensor."""
    del model.rope_freqs
    first = write_gguf(path.with_name("x.gguf"), model)
    one = path.with_name("y-00001-of-00002.gguf")
    first.rename(one)
    writer = gguf.GGUFWriter(path.with_name("y-00002-of-00002.gguf"), "llama")
    writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return one


@pytest.mark.skipif(not int8.available(), reason="torch without x86 kernels")
@pytest.mark.parametrize("dtype", ["int8", "auto"])
@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_0"])
def test_packed_weights_go_into_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, kind: str
) -> None:
    monkeypatch.setattr("solver.engines.loading.INT8_FROM", 1000)
    packed = gguf.GGMLQuantizationType[kind]
    path = write_gguf(tmp_path / "tiny.gguf", _model("qwen2"), packed)
    loaded, unpacked = _load(path, dtype), _load(path)
    assert int8.is_int8(loaded) and not int8.is_int8(unpacked)
    ours, wanted = next_logits(loaded, prompt(20)), next_logits(unpacked, prompt(20))
    assert float((ours - wanted).std() / wanted.std()) < 0.33


def test_several_parts(tmp_path: Path) -> None:
    model = _model("qwen2", tie_word_embeddings=False)
    first = write_gguf(tmp_path / "tiny.gguf", model, parts=3)
    second = first.with_name(first.name.replace("00001", "00002"))
    for path in (first, second):
        assert _same(_load(path), model)
    assert load_tokenizer(second).eos_token_id == END
    second.unlink()
    assert "00002-of-00003" in _refusal(first)


def test_the_tokenizer_is_the_files(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", _model("qwen2"))
    found, known = load_tokenizer(path), byte_tokenizer()
    text = "<|user|>\nWhat is 1+1? é∑\n<|end|>"
    assert found.decode(found.encode(text)) == text
    assert len(found.encode("<|end|>")) == 1 and found.chat_template == known.chat_template
    assert (found.eos_token_id, found.pad_token_id) == (END, PAD)
    assert generation_stop_ids(path) == {END}


def test_a_file_names_further_ends_of_turns(tmp_path: Path) -> None:
    more = {"tokenizer.ggml.eot_token_id": 258, "tokenizer.ggml.eom_token_id": 259}
    path = write_gguf(tmp_path / "tiny.gguf", _model("qwen2"), fields=more)
    assert generation_stop_ids(path) == {END, 258, 259}


def test_ids_that_fill_up_the_vocabulary_are_free_for_stop(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_gguf(tmp_path / "tiny.gguf", _model("qwen2")))
    assert vocabulary(WORDS)[-1] == f"[PAD{WORDS - 1}]"
    assert find_stop_ids(tokenizer, WORDS, 4) == tuple(range(WORDS - 4, WORDS))
    with pytest.raises(ModelError, match="19 rows beyond"):
        find_stop_ids(tokenizer, WORDS, 20)


def test_fingerprints_tell_which_files_belong_together(tmp_path: Path) -> None:
    model = _model("qwen2")
    torch.nn.init.normal_(model.model.norm.weight)
    whole = write_gguf(
        tmp_path / "whole.gguf", model
    )  # norms as they are, the folder's are rounded
    model.bfloat16().save_pretrained(tmp_path / "folder")
    packed = write_gguf(tmp_path / "packed.gguf", model, gguf.GGMLQuantizationType.Q8_0)
    parts = write_gguf(tmp_path / "parts.gguf", model, parts=2)
    paths = [tmp_path / "folder", whole, packed, parts]
    assert len({fingerprint(path) for path in paths}) == 4
    assert fingerprint(packed) == fingerprint(packed)
    assert len({norms_fingerprint(path) for path in paths}) == 1
    torch.nn.init.normal_(model.model.norm.weight)
    other = write_gguf(tmp_path / "other.gguf", model)
    assert norms_fingerprint(other) != norms_fingerprint(whole)
    named = read_config(packed)
    assert all(named[key] == getattr(model.config, key) for key in named if key != "model_type")


def _refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        _load(path)
    message = str(caught.value)
    assert "\n" not in message and path.stem.split("-")[0] in message
    return message


def test_broken_files(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", _model("qwen2"))
    whole = path.read_bytes()
    for broken in (
        b"",
        b"x" * 1000,
        whole[:10],
        whole[:100],
        whole[: len(whole) // 2],
        whole[:-400],
    ):
        path.write_bytes(broken)
        assert "not a whole GGUF file" in _refusal(path)
    path.write_bytes(whole[:4] + struct.pack("<I", 7) + whole[8:])
    assert "version 7" in _refusal(path)
    path.unlink()
    assert "does not exist" in _refusal(path)


def test_a_header_is_read_once_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    reader = files._read_header
    monkeypatch.setattr(
        files, "_read_header", lambda path, data: read.append(path) or reader(path, data)
    )
    path = write_gguf(tmp_path / "tiny.gguf", _model("qwen2"))
    _load(path)
    assert load_tokenizer(path).eos_token_id == END
    fingerprint(path)
    norms_fingerprint(path)
    assert read == [path]
    about, whole = path.stat(), path.read_bytes()
    path.write_bytes(whole.replace(b"[PAD270]", b"[PAD999]"))  # of the same length
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert "[PAD999]" in GgufFile(path).fields["tokenizer.ggml.tokens"]
    assert read == [path, path]


@pytest.mark.skipif(not int8.available(), reason="torch without x86 kernels")
async def test_a_vocabulary_of_150_000(tmp_path: Path) -> None:
    size, stop = 150_000, 4
    path = write_gguf(
        tmp_path / "large.gguf", _model("qwen2", vocab_size=size), gguf.GGMLQuantizationType.Q8_0
    )
    tokenizer, model = load_tokenizer(path), _load(path, "int8")
    free = find_stop_ids(tokenizer, size, stop)
    assert free == tuple(range(size - stop, size))
    params = SamplingParams(
        30, seed=3, temperature=0.7, top_k=40, top_p=0.95, banned_token_ids=frozenset(free)
    )
    ids = tokenizer.encode("What is 1+1?")
    async with TransformersEngine(model) as engine:
        chunks = [chunk async for chunk in engine.generate("one", ids, params)]
        [state] = await engine.probe([("one", ids)], free)
    sampled = [token for chunk in chunks for token in chunk.token_ids]
    assert len(sampled) == 30 and max(sampled) > 2 * WORDS
    assert tokenizer.decode(sampled)
    assert state.isfinite().all()


@given(data=st.data())
def test_a_header_of_any_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    whole = bytearray(_whole(tmp_path_factory))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, 2000))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        GgufFile(path).settings()
    except ModelError as error:
        assert "\n" not in str(error)


_KNOWN: list[bytes] = []


def _whole(factory: pytest.TempPathFactory) -> bytes:
    if not _KNOWN:
        path = factory.mktemp("gguf") / "tiny.gguf"
        _KNOWN.append(write_gguf(path, _model("qwen2")).read_bytes())
    return _KNOWN[0]


def test_a_file_without_a_tensor_or_of_another_architecture(tmp_path: Path) -> None:
    model = _model("qwen2")
    del model.model.layers[1].mlp
    assert "lacks the tensor blk.1.ffn" in _refusal(write_gguf(tmp_path / "tiny.gguf", model))
    writer = gguf.GGUFWriter(tmp_path / "tiny2.gguf", "gptj")
    writer.add_name("other")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "holds a gptj model" in _refusal(tmp_path / "tiny2.gguf")


def test_positions_that_are_stretched_in_an_unknown_way(tmp_path: Path) -> None:
    fields = {"qwen2.rope.scaling.type": "longrope"}
    path = write_gguf(tmp_path / "tiny.gguf", _model("qwen2"), fields=fields)
    assert "longrope" in _refusal(path)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", _model("qwen2"))
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert install("gguf") in _refusal(path)


def test_special_tokens_that_are_not_of_the_byte_alphabet(tmp_path: Path) -> None:
    """As DeepSeek's: each is one id, the file's own, and none lies behind the vocabulary."""
    renamed = {"<|pad|>": "<｜pad｜>", "<|end|>": "<｜end▁of▁sentence｜>", "<|user|>": "<｜User｜>"}
    path = write_gguf(tmp_path / "m.gguf", _model("qwen2"), renamed=renamed)
    tokenizer = load_tokenizer(path)
    texts = [
        renamed.get(text, text) for text in ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")
    ]
    assert [tokenizer.encode(text) for text in texts] == [[256], [257], [258], [259]]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD, END)
    assert tokenizer.encode("<｜User｜>ab") == [258, 260], "what was learned is still merged"
    assert tokenizer.decode([258, 260, END]) == "<｜User｜>ab<｜end▁of▁sentence｜>"


def test_a_tokenizer_beside_the_file_is_not_its_own(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", _model("qwen2"))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "another"}')
    assert load_tokenizer(path).eos_token_id == END
    assert load_tokenizer(path).chat_template == CHAT_TEMPLATE
