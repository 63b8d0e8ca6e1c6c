"""What a model's files say about its tokens: the tokenizer, and the ids that end a turn."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer

from solver.adapter.fingerprint import read_object
from solver.errors import ModelError
from solver.files.gguf import GgufFile, gguf_parts, is_gguf

_SPECIAL = (3, 4)  # control tokens, and those that were added to the vocabulary
_GGUF_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")


def load_tokenizer(model: Path) -> Any:
    """The tokenizer of a model folder or a GGUF file. Raises `ModelError`, `OSError` or `ValueError`."""
    auto: Any = transformers.AutoTokenizer
    if not is_gguf(model):
        return auto.from_pretrained(str(model), local_files_only=True, trust_remote_code=False)
    first = gguf_parts(model)[0]
    fast: Any = transformers.PreTrainedTokenizerFast  # `auto` would look at the model too, for 30 s
    try:
        with tempfile.TemporaryDirectory() as alone:  # a tokenizer.json beside it would be taken
            Path(alone, first.name).symlink_to(first.absolute())
            tokenizer = fast.from_pretrained(
                alone,
                gguf_file=first.name,
                local_files_only=True,
                trust_remote_code=False,
                config={},
            )
        _restore_special_tokens(tokenizer, GgufFile(model).fields)
        return tokenizer
    except (LookupError, TypeError, ValueError, struct.error) as error:
        raise ModelError(f"the tokenizer in {model} cannot be used: {error}") from error


def _restore_special_tokens(tokenizer: Any, fields: Mapping[str, Any]) -> None:
    """Give every special token of a GGUF file its own id back.

    transformers leaves out those whose text is not of the byte alphabet, as DeepSeek's are, and appends some
    of them behind the vocabulary.
    """
    texts = fields.get("tokenizer.ggml.tokens", ())
    kinds = fields.get("tokenizer.ggml.token_type", ())
    special = {
        text: i
        for i, (text, kind) in enumerate(zip(texts, kinds, strict=False))
        if kind in _SPECIAL
    }
    lost = {text: i for text, i in special.items() if tokenizer.convert_tokens_to_ids(text) != i}
    if not lost:
        return
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary, ids = state["model"]["vocab"], {*lost.values()}
    if not isinstance(vocabulary, dict):
        raise ValueError(f"the special token {next(iter(lost))!r} has another id")
    kept = {text: i for text, i in vocabulary.items() if i not in ids}
    state["model"]["vocab"] = {**kept, **lost}
    added = [one for one in state["added_tokens"] if one["content"] not in lost]
    form = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added += [{"id": i, "content": text, **form, "special": True} for text, i in lost.items()]
    state["added_tokens"] = sorted(added, key=lambda one: one["id"])
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))


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
