"""What a model's files say about its tokens: the tokenizer, and the ids that end a turn."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import transformers

from solver.adapter.fingerprint import read_object
from solver.errors import ModelError
from solver.files.gguf import GgufFile, gguf_parts, is_gguf

_GGUF_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")


def load_tokenizer(model: Path) -> Any:
    """The tokenizer of a model folder or a GGUF file. Raises `ModelError`, `OSError` or `ValueError`."""
    auto: Any = transformers.AutoTokenizer
    if not is_gguf(model):
        return auto.from_pretrained(str(model), local_files_only=True)
    first = gguf_parts(model)[0]
    fast: Any = transformers.PreTrainedTokenizerFast  # `auto` would look at the model too, for 30 s
    try:
        return fast.from_pretrained(
            str(first.parent), gguf_file=first.name, local_files_only=True, config={}
        )
    except (LookupError, TypeError, ValueError, struct.error) as error:
        raise ModelError(f"the tokenizer in {model} cannot be used: {error}") from error


def keep_tokenizer(model: Path, folder: Path) -> None:
    """Write the tokenizer of a GGUF file to tokenizer.json in a run's folder, for its report."""
    kept = folder / "tokenizer.json"
    if not kept.is_file():
        load_tokenizer(model).backend_tokenizer.save(str(kept))


def generation_stop_ids(model: Path) -> frozenset[int]:
    """Every id that ends a turn by a folder's generation_config.json or a GGUF file's header.

    Raises `ModelError` for a file that cannot be read.
    """
    if is_gguf(model):
        fields = GgufFile(model).fields
        named = (fields.get(f"tokenizer.ggml.{key}") for key in _GGUF_ENDS)
        return frozenset(token for token in named if isinstance(token, int))
    path = model / "generation_config.json"
    if not path.is_file():
        return frozenset()
    found = read_object(path, missing="").get("eos_token_id")
    ids = found if isinstance(found, list) else [found]
    return frozenset(token for token in ids if isinstance(token, int))
