from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from solver.adapter.ids import find_stop_ids
from solver.errors import ModelError


def tokenizer_with(*specials: str) -> Any:
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate("abcdefgh")}, merges=[]))
    core.add_special_tokens(["<eos>", *specials])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")


def test_tokens_made_for_it_come_first_in_their_order() -> None:
    tokenizer = tokenizer_with("<|stop_1|>", "<|stop_0|>", "<|reserved_special_token_0|>")
    assert find_stop_ids(tokenizer, 64, 2) == (10, 9)


def test_then_the_last_reserved_tokens() -> None:
    tokenizer = tokenizer_with(*[f"<|reserved_special_token_{i}|>" for i in range(5)])
    assert find_stop_ids(tokenizer, 64, 4) == (10, 11, 12, 13)


def test_then_rows_beyond_the_tokenizer() -> None:
    assert find_stop_ids(tokenizer_with(), 16, 4) == (12, 13, 14, 15)


def test_ids_beyond_the_table_do_not_count() -> None:
    tokenizer = tokenizer_with(*[f"<|stop_{i}|>" for i in range(4)])
    assert find_stop_ids(tokenizer, 11, 2) == (9, 10)
    with pytest.raises(ModelError, match=r"no 4 unused ids.*: 2 named <\|stop_N\|>, 0 reserved"):
        find_stop_ids(tokenizer, 11, 4)


def test_those_of_the_last_check_are_next_to_those_of_a_mark() -> None:
    named = tokenizer_with(*[f"<|stop_{i}|>" for i in range(4)])
    assert find_stop_ids(named, 64, 2) == (9, 10)
    assert find_stop_ids(named, 64, 2, at_end=True) == (11, 12)
    reserved = tokenizer_with(*[f"<|reserved_special_token_{i}|>" for i in range(5)])
    assert find_stop_ids(reserved, 64, 2, at_end=True) == (10, 11)
    assert find_stop_ids(tokenizer_with(), 16, 2, at_end=True) == (12, 13)
    with pytest.raises(ModelError, match=r"no 5 unused ids.* beside the 5 of a check at a mark"):
        find_stop_ids(tokenizer_with(), 16, 5, at_end=True)
