"""Checks that the weights of a model folder are complete, and sums up their size."""

from __future__ import annotations

from pathlib import Path

from solver.adapter.fingerprint import read_header, read_object
from solver.errors import ModelError
from solver.files.gguf import GgufFile, is_gguf

_AGAIN = "save or download the model again"


def weights_bytes(folder: Path) -> int:
    """Bytes of all safetensors files, or of a GGUF file; reads headers only. Raises `ModelError`."""
    if is_gguf(folder):
        return sum(len(part.data) for part in GgufFile(folder).parts)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = read_object(index, missing="").get("weight_map")
        if not isinstance(shards, dict):
            raise ModelError(f"{index} has no weight_map: {_AGAIN}")
        files = [folder / str(name) for name in sorted({*shards.values()})]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} has no *.safetensors weights: {_AGAIN}")
    return sum(_whole(file) for file in files)


def _whole(file: Path) -> int:
    """The size in bytes of a complete file. Raises `ModelError` if its tensors end elsewhere."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            header, header_size = read_header(stream, size)
        end = 8 + header_size + max(entry["data_offsets"][1] for entry in header.values())
        if end != size:
            raise ValueError(f"{size:,} bytes of {end:,}")
    except FileNotFoundError:
        raise ModelError(f"{file} is missing: {_AGAIN}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is not a whole safetensors file ({error}): {_AGAIN}") from None
    return size
