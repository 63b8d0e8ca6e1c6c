"""The tokenizer, the chat template and the training layout agree."""

from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError

from solver.embedded.corpus import trajectory
from solver.embedded.tokens import (
    MAX_LENGTH,
    STOP_TOKENS,
    VOCABULARY_SIZE,
    encode,
    load_tokenizer,
    render_prompt,
    train_tokenizer,
)


def plain(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def test_size_and_special_tokens(tokenizer: Any) -> None:
    assert len(tokenizer) <= VOCABULARY_SIZE
    names = ["<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", *STOP_TOKENS]
    assert tokenizer.convert_tokens_to_ids(names) == list(range(12))
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|pad|>", "<|end|>")


def test_every_digit_is_its_own_token(tokenizer: Any) -> None:
    with_digit = [
        tokenizer.decode([index])
        for index in range(len(tokenizer))
        if not tokenizer.decode([index]).startswith("<|stop_")
        and any(c.isdigit() for c in tokenizer.decode([index]))
    ]
    assert sorted(with_digit) == list("0123456789")
    assert len(plain(tokenizer, "90210")) == 5


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_round_trips(tokenizer: Any, text: str) -> None:
    if "<|" not in text:
        assert tokenizer.decode(plain(tokenizer, text)) == text


def test_a_saved_tokenizer_loads_the_same(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    text = "How many x <= 120?\n```python\nprint(12)\n```\n"
    assert plain(again, text) == plain(tokenizer, text)
    assert again.chat_template == tokenizer.chat_template
    assert again.decode(plain(again, text)) == text


def test_training_the_tokenizer_is_deterministic(tokenizer: Any) -> None:
    assert train_tokenizer(seed=0).get_vocab() == tokenizer.get_vocab()


def test_the_chat_template_equals_the_training_layout(tokenizer: Any) -> None:
    for index in range(24):
        draft = trajectory(index, seed=4)
        messages = [{"role": "user", "content": draft.problem.statement}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert text == render_prompt(draft.problem.statement)
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        encoded = encode(tokenizer, draft)
        assert encoded.ids[: len(ids)] == ids
        whole = text + "".join(segment.text for segment in draft.segments) + "<|end|>"
        assert tokenizer.decode(encoded.ids) == whole


def test_pieces_encoded_apart_equal_the_whole(tokenizer: Any) -> None:
    """Re-encoding a run's text gives the very ids, so a run can be resumed from its text."""
    for index in range(60):
        draft = trajectory(index, seed=4)
        encoded = encode(tokenizer, draft)
        assert plain(tokenizer, tokenizer.decode(encoded.ids)) == encoded.ids


def test_a_system_message_is_refused(tokenizer: Any) -> None:
    with pytest.raises(TemplateError, match="only user and assistant"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)


def test_tool_outputs_alone_are_masked(tokenizer: Any) -> None:
    draft = trajectory(3, seed=4)
    encoded = encode(tokenizer, draft)
    masked = [i for i, learn in zip(encoded.ids, encoded.learn, strict=True) if not learn]
    tool = "".join(segment.text for segment in draft.segments if not segment.sampled)
    assert tokenizer.decode(masked) == tool
    prompt = len(plain(tokenizer, render_prompt(draft.problem.statement)))
    assert encoded.sampled_length == sum(encoded.learn) - prompt


def test_plans_end_before_the_mark_and_trajectories_are_four_times_as_long(tokenizer: Any) -> None:
    encoded = [encode(tokenizer, trajectory(index, seed=12)) for index in range(1200)]
    plans = sorted(e.plan_length for e in encoded)
    mark = -(-plans[int(0.99 * (len(plans) - 1))] // 4) * 4
    assert 28 <= mark <= 40
    assert median(e.sampled_length for e in encoded) >= 4 * mark
    assert max(len(e.ids) for e in encoded) < MAX_LENGTH - 100
    assert not {i for e in encoded for i in e.ids} & set(range(4, 12))
