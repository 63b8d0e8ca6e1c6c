"""GGUF files: what their header says, and their tensors as floats, some rows at a time.

The header is read here, because `gguf`'s own reader makes an array of every string: 15 s and some 200 MB
for a vocabulary of 150,000. Blocks are unpacked by `gguf`, which knows every way to pack them. A model in
several parts is named by any of them. Format: ggml's docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solver.cli.extras import install
from solver.errors import ModelError

if TYPE_CHECKING:  # commands that check a path need not wait for it
    import numpy as np
    from numpy.typing import NDArray

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_ELSE = "take a file in Q4_K_M, Q8_0 or F16"

_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def is_gguf(path: Path) -> bool:
    """Whether a path names a GGUF file."""
    return path.suffix.lower() == ".gguf"


def gguf_parts(path: Path) -> list[Path]:
    """Every part of a file, the first one first. Raises `ModelError` for one that is not there."""
    parts = [path]
    if match := _PART.fullmatch(path.name):
        name, _, count = match.groups()
        parts = [path.with_name(f"{name}-{n:05}-of-{count}.gguf") for n in range(1, int(count) + 1)]
    for part in parts:
        if not part.is_file():
            raise ModelError(f"{part} does not exist: give a GGUF file, all of its parts beside it")
    return parts


def gguf_name(name: str) -> str | None:
    """What GGUF files call a tensor that transformers calls `name`; None for one of another layout."""
    path, _, leaf = name.rpartition(".")
    match = _LAYER.fullmatch(path)
    place = _INNER.get(match[2]) if match else _OUTER.get(path)
    if place is None:
        return None
    return f"blk.{match[1]}.{place}.{leaf}" if match else f"{place}.{leaf}"


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor `shape` (outputs before inputs) that is packed as ggml's type `kind` in a part of the file."""

    name: str
    shape: tuple[int, ...]
    kind: int
    part: _Part
    start: int

    def rows(self, which: slice | NDArray[np.int64] = slice(None)) -> NDArray[np.float32]:
        """These rows of a matrix, or a vector, as floats. Raises `ModelError` for an unknown packing."""
        import numpy as np
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

        kind = GGMLQuantizationType(self.kind)
        block, size = GGML_QUANT_SIZES[kind]
        count, width = math.prod(self.shape[:-1]), self.shape[-1] // block * size
        packed = np.frombuffer(self.part.data, np.uint8, count * width, self.start)
        matrix = packed.reshape(count, width)
        try:
            if len(self.shape) == 1:
                found: Any = dequantize(np.array(matrix), kind)[0][which]
            else:
                found = dequantize(np.array(matrix[which]), kind)
        except NotImplementedError:
            raise ModelError(
                f"the tensor {self.name} of {self.part.path} is packed as {kind.name}: {_ELSE}"
            ) from None
        return np.array(found, dtype=np.float32)


class GgufFile:
    """A whole GGUF model: `fields` of its header by key, `tensors` of all its parts by name."""

    def __init__(self, path: Path) -> None:
        """Read the headers. Raises `ModelError` for a file that is broken, cut or no GGUF file."""
        self.path = path
        self.parts = [_read(part) for part in gguf_parts(path)]
        self.fields = self.parts[0].fields
        self.tensors = {tensor.name: tensor for part in self.parts for tensor in part.tensors}

    @property
    def architecture(self) -> str:
        """Such as `llama` or `qwen2`."""
        return str(self.fields.get("general.architecture"))

    def settings(self) -> dict[str, Any]:
        """What transformers' config.json would say, of the keys that decide the model's shape.

        Raises `ModelError` where the file does not say it.
        """
        keys = {
            "hidden_size": "embedding_length",
            "intermediate_size": "feed_forward_length",
            "num_hidden_layers": "block_count",
            "num_attention_heads": "attention.head_count",
            "max_position_embeddings": "context_length",
        }
        kind, fields = self.architecture, self.fields
        found: dict[str, Any] = {"model_type": kind}
        for name, key in keys.items():
            found[name] = fields.get(f"{kind}.{key}")
            if not isinstance(found[name], int) or found[name] < 1:
                raise ModelError(f"{self.path} does not say its {kind}.{key}: {_ELSE}")
        heads = found["num_attention_heads"]
        found["num_key_value_heads"] = fields.get(f"{kind}.attention.head_count_kv", heads)
        found["head_dim"] = fields.get(
            f"{kind}.attention.key_length", found["hidden_size"] // heads
        )
        table = self.tensors.get("token_embd.weight")
        if table is None:
            raise ModelError(f"{self.path} has no token_embd.weight: download it again")
        found["vocab_size"] = table.shape[0]
        return found

    def forget_pages(self) -> None:
        """Give back the memory of what was read; it would count as this process's until the end."""
        for part in self.parts:
            if hasattr(mmap, "MADV_DONTNEED"):
                part.data.madvise(mmap.MADV_DONTNEED)


@dataclass(eq=False)
class _Part:
    path: Path
    data: mmap.mmap
    fields: dict[str, Any]
    tensors: list[GgufTensor]
    begin: int = 0  # of the tensors' bytes


def _read(path: Path) -> _Part:
    try:
        about = path.stat()
        return _read_once(path, about.st_ino, about.st_size, about.st_mtime_ns)
    except ImportError as error:
        raise ModelError(f"reading {path} needs gguf: {install('gguf')}") from error
    except (OSError, ValueError, KeyError, struct.error, RecursionError, OverflowError) as error:
        raise ModelError(f"{path} is not a whole GGUF file ({error}): download it again") from None


@lru_cache(maxsize=32)  # most of a second for a large vocabulary, and half a dozen places ask
def _read_once(path: Path, *_as_it_was: int) -> _Part:
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _read_header(path, data)


def _read_header(path: Path, data: mmap.mmap) -> _Part:
    from gguf import GGML_QUANT_SIZES

    if data[:4] != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    cursor = _Cursor(data, 4)
    version, num_tensors, num_fields = cursor.take("I"), cursor.take("Q"), cursor.take("Q")
    if version not in _VERSIONS:
        raise ValueError(f"version {version}")
    fields = {}
    for _ in range(num_fields):
        key = cursor.text()
        fields[key] = cursor.value(cursor.take("I"))
    entries = []
    for _ in range(num_tensors):
        name = cursor.text()
        sizes = [cursor.take("Q") for _ in range(cursor.take("I"))]
        entries.append((name, tuple(reversed(sizes)), cursor.take("I"), cursor.take("Q")))
    alignment = fields.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"general.alignment is {alignment!r}")
    begin = -(-cursor.at // alignment) * alignment
    part = _Part(path, data, fields, [], begin)
    blocks = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    for name, shape, kind, offset in entries:
        if kind not in blocks:
            raise ModelError(f"the tensor {name} of {path} is packed as type {kind}: {_ELSE}")
        block, size = blocks[kind]
        if not shape or shape[-1] % block:
            raise ValueError(f"{name} is no number of whole blocks")
        end = begin + offset + math.prod(shape) // block * size
        if end > len(data):
            raise ValueError(f"{len(data):,} bytes of at least {end:,}")
        part.tensors.append(GgufTensor(name, shape, kind, part, begin + offset))
    return part


class _Cursor:
    """Reads a header from front to back. Raises `ValueError` or `struct.error` behind its end."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data, self.at = data, at

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._data, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value

    def text(self) -> str:
        return self._bytes(self.take("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.take(_SCALARS[kind])
        kind, count = self.take("I"), self.take("Q")
        if kind in (_STRING, _ARRAY):
            return [self.value(kind) for _ in range(count)]
        code = f"<{count}{_SCALARS[kind]}"
        return list(struct.unpack(code, self._bytes(struct.calcsize(code))))

    def _bytes(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._data):
            raise ValueError("its header is cut")
        found = self._data[self.at : end]
        self.at = end
        return found
