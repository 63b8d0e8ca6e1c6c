"""A base model's fingerprint, computed in milliseconds: whether an adapter was trained on it.

Hashed are the fields of config.json that decide what the model computes, and of each safetensors
file its header (names, shapes, dtypes of the tensors), its length and its first and last 64 KiB.
That tells models, finetunes and conversions apart without reading 100 GB; it is no protection
against someone who wants to deceive. Of a GGUF file the header, the length and the same samples are hashed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

from solver.errors import ModelError
from solver.files.gguf import GgufFile, is_gguf

_SAMPLE_BYTES = 64 * 1024
_ARCHITECTURE = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "attention_bias",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "sliding_window",
    "use_sliding_window",
    "layer_types",
    "tie_word_embeddings",
    "num_local_experts",
    "num_experts_per_tok",
    "quantization_config",
)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder, or what a GGUF file says of it. Raises `ModelError`."""
    if is_gguf(folder):
        return GgufFile(folder).settings()
    return read_object(
        folder / "config.json", missing=f"{folder} is not a model folder: it has no config.json"
    )


def read_object(path: Path, missing: str) -> dict[str, Any]:
    """A JSON object in a file. Raises `ModelError`, with the words `missing` if there is no file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(missing) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object")
    return value


def fingerprint(folder: Path) -> str:
    """The sha256 (hex) of a model folder with safetensors weights, or of a GGUF file. Raises `ModelError`."""
    digest = hashlib.sha256()
    if is_gguf(folder):
        for part in GgufFile(folder).parts:
            digest.update(part.data[: part.begin + _SAMPLE_BYTES])
            digest.update(len(part.data).to_bytes(8, "little"))
            digest.update(part.data[-_SAMPLE_BYTES:])
        return digest.hexdigest()
    config = read_config(folder)
    known = {key: config[key] for key in _ARCHITECTURE if config.get(key) is not None}
    digest.update(json.dumps(known, sort_keys=True).encode())
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} has no *.safetensors weights")
    for file in files:
        try:
            _hash_weights(digest, file)
        except (OSError, ValueError) as error:
            raise ModelError(f"{file} is not a whole safetensors file: {error}") from None
    return digest.hexdigest()


def read_header(stream: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file of `size` bytes, and the header's length in bytes.

    The bytes of the tensors follow in `stream`. Raises `OSError`, or `ValueError` for another file.
    """
    header_size = int.from_bytes(stream.read(8), "little")
    if header_size > size - 8:
        raise ValueError("its header is longer than the file")
    header = json.loads(stream.read(header_size))
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    header.pop("__metadata__", None)
    return header, header_size


def _hash_weights(digest: Any, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        header, header_size = read_header(stream, size)
        digest.update(json.dumps(header, sort_keys=True).encode())
        digest.update((size - header_size).to_bytes(8, "little"))
        digest.update(stream.read(_SAMPLE_BYTES))
        # The last bytes may overlap the first ones in a small file: that harms nothing.
        stream.seek(max(8 + header_size, size - _SAMPLE_BYTES))
        digest.update(stream.read(_SAMPLE_BYTES))
