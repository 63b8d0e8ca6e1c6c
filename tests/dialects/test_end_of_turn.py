"""A turn ends with the tokenizer's eos, the template's own token, or one of the generation settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.limits import Limits
from sandbox.result import ExecutionResult, ExecutionStatus
from solver.build import open_dialect
from solver.config import SolverConfig
from solver.dialects.fenced import FencedDialect
from solver.errors import ModelError
from solver.types import Trajectory, Turn
from tests.support import byte_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# the answer is set apart by spaces, and nothing but a user's message follows it
SPACED = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|> {{ m.content }} <|assistant|>"
    "{% else %} {{ m.content }} <|im_end|>{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# ends a turn in nothing, and begins the next one with a token of the user's
UNENDED = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|assistant|>"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
)


def tokenizer(template: str) -> Any:
    """One whose eos is <|end|>, whatever its template writes."""
    made = byte_tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = template
    return made


def ids_of(made: Any, *tokens: str) -> set[int]:
    return {made.convert_tokens_to_ids(token) for token in tokens}


def told(dialect: FencedDialect, made: Any, written: str) -> str:
    """What follows the model's text when its call has printed 2."""
    ids = made.encode(written, add_special_tokens=False)
    trajectory = Trajectory("p", 0, 1, tuple(dialect.prompt("1+1?")), [Turn(ids)])
    printed = ExecutionResult(status=ExecutionStatus.OK, stdout="2\n")
    return dialect.text(dialect.tool_message(trajectory, printed))


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (CHATML, ["<|end|>", "<|im_end|>"]),
        (SPACED, ["<|end|>", "<|im_end|>"]),
        (PLAIN, ["<|end|>"]),
        (UNENDED, ["<|end|>"]),
    ],
)
def test_the_token_that_the_template_ends_a_turn_with(template: str, ends: list[str]) -> None:
    made = tokenizer(template)
    dialect = FencedDialect(made, "bare", Limits())
    assert dialect.stop_token_ids == ids_of(made, *ends)
    for token in dialect.stop_token_ids:
        assert dialect.reader([token]).ended


def test_a_token_that_ends_turns_without_being_special() -> None:
    made = tokenizer(PLAIN.replace("\n\n", "<turn_end>\n"))
    made.add_tokens(["<turn_end>"])
    dialect = FencedDialect(made, "bare", Limits())
    assert dialect.stop_token_ids == ids_of(made, "<|end|>", "<turn_end>")


def test_without_an_eos_the_template_ends_turns() -> None:
    made = tokenizer(CHATML)
    made.eos_token = None
    assert FencedDialect(made, "bare", Limits()).stop_token_ids == ids_of(made, "<|im_end|>")


def test_what_ended_the_turn_is_not_written_twice() -> None:
    made = tokenizer(CHATML)
    dialect = FencedDialect(made, "bare", Limits())
    call = "```python\nprint(2)\n```"
    user = "\n<|im_start|>user\n```output\n2\n```\n<|im_end|>\n<|im_start|>assistant\n"
    assert told(dialect, made, call + "<|im_end|>") == user
    # ended by another token, the turn is ended as the template has it too
    assert told(dialect, made, call + "<|end|>") == "<|im_end|>" + user


def test_a_message_after_a_spaced_or_a_plain_turn() -> None:
    spaced, plain = tokenizer(SPACED), tokenizer(PLAIN)
    call, block = "```python\nprint(2)\n```", "```output\n2\n```\n"
    dialect = FencedDialect(spaced, "bare", Limits())
    assert told(dialect, spaced, call + "<|im_end|>") == f"<|user|> {block} <|assistant|>"
    assert told(dialect, spaced, call + "<|end|>") == f" <|im_end|><|user|> {block} <|assistant|>"
    dialect = FencedDialect(plain, "bare", Limits())
    assert told(dialect, plain, call + "<|end|>") == f"\n\nuser: {block}\n\nassistant: "


def opened(folder: Path, settings: str | None) -> FencedDialect:
    made = tokenizer(CHATML)
    made.save_pretrained(folder)
    if settings is not None:
        (folder / "generation_config.json").write_text(settings)
    dialect = open_dialect(SolverConfig(), folder)
    assert isinstance(dialect, FencedDialect)
    return dialect


@pytest.mark.parametrize("found", [None, {}, {"eos_token_id": None}, {"eos_token_id": 7},
                                   {"eos_token_id": [7, 9]}])  # fmt: skip
def test_the_ids_of_the_generation_settings(tmp_path: Path, found: Any) -> None:
    dialect = opened(tmp_path, None if found is None else json.dumps(found))
    named = (found or {}).get("eos_token_id") or []
    more = set(named) if isinstance(named, list) else {named}
    assert dialect.stop_token_ids == ids_of(tokenizer(CHATML), "<|end|>", "<|im_end|>") | more


def test_padding_that_ends_turns_is_not_banned(tmp_path: Path) -> None:
    pad = byte_tokenizer().pad_token_id
    assert pad in opened(tmp_path, None).banned_token_ids
    dialect = opened(tmp_path, json.dumps({"eos_token_id": [pad]}))
    assert pad in dialect.stop_token_ids and pad not in dialect.banned_token_ids


def test_generation_settings_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"generation_config\.json"):
        opened(tmp_path, "{")
