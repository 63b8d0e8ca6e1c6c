"""Whatever a statement, a tool or an exception spells out enters the context as text."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer

from sandbox.limits import Limits
from sandbox.result import ExecutionResult, ExecutionStatus
from solver.dialects.base import Dialect
from solver.dialects.fenced import FencedDialect
from solver.embedded.paths import WEIGHTS
from solver.types import Trajectory, Turn
from tests.support import byte_tokenizer

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def thinking() -> Any:
    """A tokenizer as thinking models have them: tags are added tokens, but not special ones."""
    tokenizer = byte_tokenizer()
    marks = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.add_tokens(
        [AddedToken(tag, special=False) for tag in ("<think>", "</think>", "<tool_call>", "  ")]
    )
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = THINKING
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "bytes": byte_tokenizer,
    "thinking": thinking,
    "embedded": lambda: AutoTokenizer.from_pretrained(str(WEIGHTS), local_files_only=True),
}


@cache
def fenced(name: str) -> tuple[Dialect, frozenset[int], list[str]]:
    """The dialect over a tokenizer, the ids that only it may write, and how these are spelled."""
    tokenizer = TOKENIZERS[name]()
    marks = {token: i for token, i in tokenizer.get_added_vocab().items() if not token.isspace()}
    return FencedDialect(tokenizer, "bare", Limits()), frozenset(marks.values()), list(marks)


@cache
def harmony() -> tuple[Dialect, frozenset[int], list[str]]:
    from tests.support.harmony import dialect

    names = ["start", "end", "message", "channel", "constrain", "return", "call", "endoftext"]
    marks = [f"<|{name}|>" for name in [*names, "startoftext", "reserved_200013", "endofprompt"]]
    return dialect(), frozenset(range(199_998, 201_088)), marks


ALL = [*TOKENIZERS, "harmony"]


def of(name: str) -> tuple[Dialect, frozenset[int], list[str]]:
    return harmony() if name == "harmony" else fenced(name)


def structure(token_ids: list[int], special: frozenset[int]) -> list[int]:
    return [token_id for token_id in token_ids if token_id in special]


def told(dialect: Dialect, ended: bool, result: ExecutionResult) -> list[int]:
    last = min(dialect.stop_token_ids) if ended else 1
    trajectory = Trajectory("p", 0, 1, tuple(dialect.prompt("1+1?")), [Turn([last])])
    return dialect.tool_message(trajectory, result)


@pytest.mark.parametrize("name", ALL)
@given(data=st.data())
def test_special_tokens_of_others_are_text(name: str, data: st.DataObject) -> None:
    dialect, special, marks = of(name)
    pieces = st.sampled_from(
        [*marks, *(mark[:2] for mark in marks), "<", "|>", "<|end|>", "</think>"]
    )
    text = data.draw(st.lists(pieces | st.text("ab <|/>é\n", max_size=4), max_size=6).map("".join))
    ended, failed = data.draw(st.booleans()), data.draw(st.booleans())

    hostile, harmless = dialect.prompt(f"a{text}b"), dialect.prompt("ab")
    assert structure(hostile, special) == structure(harmless, special)
    assert f"a{text}b" in dialect.text(hostile)

    says = {"stderr": f"ValueError: {text}."} if failed else {"stdout": f"{text}."}
    output = told(dialect, ended, ExecutionResult(status=ExecutionStatus.OK, **says))
    plain = told(dialect, ended, ExecutionResult(status=ExecutionStatus.OK, stdout="."))
    assert structure(output, special) == structure(plain, special)
    assert f"{text}." in dialect.text(output)


@pytest.mark.parametrize("name", ALL)
def test_each_special_token_printed_is_text(name: str) -> None:
    """Tool output: <|end|> or any other special token, printed."""
    dialect, special, marks = of(name)
    plain = structure(told(dialect, True, ExecutionResult(status=ExecutionStatus.OK)), special)
    for mark in marks:
        output = told(dialect, True, ExecutionResult(status=ExecutionStatus.OK, stdout=mark))
        assert structure(output, special) == plain, mark
        assert mark in dialect.text(output)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ordinary_text_is_encoded_as_it_always_was(name: str) -> None:
    dialect, _, _ = of(name)
    tokenizer = TOKENIZERS[name]()
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is  $1+1$?"}], add_generation_prompt=True, tokenize=False
    )
    assert dialect.prompt("What is  $1+1$?") == tokenizer.encode(rendered, add_special_tokens=False)
    output = told(dialect, False, ExecutionResult(status=ExecutionStatus.OK, stdout="1 < 2 |  3"))
    block = "```output\n1 < 2 |  3\n```\n"
    assert output == tokenizer.encode(block, add_special_tokens=False)


def test_a_thought_that_the_template_begins_is_closed() -> None:
    dialect, _, _ = of("thinking")
    trajectory = Trajectory("p", 0, 1, tuple(dialect.prompt("1+1?")), [Turn([ord("a")])])
    assert "</think>\n\nThe answer is" in dialect.text(dialect.final_opening(trajectory))
