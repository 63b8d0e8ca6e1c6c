"""Which ids of a vocabulary can serve as [STOP]: those that no text and no format ever uses."""

from __future__ import annotations

import re
from typing import Any

from solver.errors import ModelError

_OURS = re.compile(r"<\|stop_(\d+)\|>")
_PADDED = re.compile(r"\[PAD(\d+)\]")  # what GGUF files call rows beyond the tokenizer
_RESERVED = re.compile(r"reserved|unused|control_\d|extra_id|placeholder", re.IGNORECASE)


def find_stop_ids(
    tokenizer: Any, num_rows: int, count: int, *, at_end: bool = False
) -> tuple[int, ...]:
    """`count` ids for [STOP] below `num_rows`, the number of rows of the input embedding.

    In order of preference: tokens made for it (`<|stop_0|>`, ...), the last of the vocabulary's own
    reserved special tokens, and embedding rows beyond the tokenizer's last id. `at_end`: the `count` ids
    next to those, for an adapter of the last check, which is on the model beside the mark's. Raises
    `ModelError` that says how many there are when they do not suffice.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    used = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id}
    free = {
        text: token
        for text, token in vocabulary.items()
        if token < num_rows and token not in used
    }  # fmt: skip
    named = sorted((int(match[1]), free[t]) for t in free if (match := _OURS.fullmatch(t)))
    special = _special_tokens(tokenizer) & free.keys()
    reserved = sorted(free[text] for text in special if _RESERVED.search(text))
    written = (t for text, t in vocabulary.items() if t < num_rows and not _is_padding(text, t))
    last = max(written, default=-1)
    beyond = range(last + 1, num_rows)
    passed = count if at_end else 0
    for choice in (
        [token for _, token in named][passed:][:count],
        reserved[: len(reserved) - passed][-count:],
        list(beyond)[: len(beyond) - passed][-count:],
    ):
        if len(choice) == count:
            return tuple(choice)
    beside = f" beside the {count} of a check at a mark" if at_end else ""
    raise ModelError(
        f"the vocabulary has no {count} unused ids for [STOP]{beside}: {len(named)} named <|stop_N|>, "
        f"{len(reserved)} reserved tokens, {len(beyond)} rows beyond the tokenizer; "
        "name ids that are never used with --stop-ids, one id may be repeated"
    )


def _is_padding(text: str, token: int) -> bool:
    """Whether an id only fills up the vocabulary of a GGUF file: `[PAD151665]` is id 151665."""
    match = _PADDED.fullmatch(text)
    return match is not None and int(match[1]) == token


def _special_tokens(tokenizer: Any) -> set[str]:
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | set(tokenizer.all_special_tokens)
