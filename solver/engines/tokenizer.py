"""What a model's files say about its tokens: the tokenizer, and the ids that end a turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from solver.adapter.fingerprint import read_object


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder. Raises `OSError` or `ValueError`."""
    auto: Any = transformers.AutoTokenizer
    return auto.from_pretrained(str(folder), local_files_only=True)


def generation_stop_ids(folder: Path) -> frozenset[int]:
    """Every end-of-sequence id in a folder's generation_config.json; none without that file.

    Raises `ModelError` for a file that cannot be read.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return frozenset()
    found = read_object(path, missing="").get("eos_token_id")
    ids = found if isinstance(found, list) else [found]
    return frozenset(token for token in ids if isinstance(token, int))
