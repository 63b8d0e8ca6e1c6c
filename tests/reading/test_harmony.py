"""What gpt-oss writes when it does not keep to its format."""

from __future__ import annotations

from typing import Any

import pytest

from solver.config import AnswerConfig
from solver.types import Trajectory, Turn
from tests.reading.cases import of
from tests.support.harmony import CALL, NEXT, THOUGHT, dialect, ids

DIALECT = dialect()
RULE = AnswerConfig()
OLD = "<|channel|>analysis<|message|>\\boxed{7}?<|end|>" + NEXT


def wrote(text: str) -> Trajectory:
    return Trajectory("p", 0, 1, tuple(DIALECT.prompt("1+1?")), [Turn(ids(text))])


@of("harmony, says")
def test_it_says(case: dict[str, Any]) -> None:
    trajectory = wrote(case["input"])
    assert DIALECT.answer(trajectory, RULE) == case["expected"]
    assert DIALECT.reader(trajectory.turns[0].token_ids).ended


@of("harmony, calls")
def test_it_calls(case: dict[str, Any]) -> None:
    reader = DIALECT.reader(ids(case["input"]))
    assert (reader.call, reader.refusal, reader.ended) == (case["expected"], None, False)


@pytest.mark.parametrize(
    "text",
    [
        "<|channel|>final to=user<|message|>\\boxed{42}<|return|>",
        "<|channel|>final to=user \\boxed{42}<|return|>",
        "<|channel|>final \\boxed{42}<|end|>",
        "<|channel|>final\n\n\\boxed{42}<|start|>assistant<|channel|>final<|message|>Done.<|return|>",
        " We get \\boxed{42}.<|return|>",
        " system of equations: \\boxed{42}.<|return|>",
        "<|channel|>analysis We get \\boxed{42}.<|return|>",
    ],
)
def test_an_answer_in_the_wrong_place_comes_before_an_older_thought(text: str) -> None:
    assert DIALECT.answer(wrote(OLD + text), RULE) == 42


@pytest.mark.parametrize("closing", ["<|end|>", "<|return|>", "<|call|>"])
def test_code_for_python_runs_however_the_call_is_closed(closing: str) -> None:
    reader = DIALECT.reader(ids(THOUGHT + NEXT + CALL.replace("<|call|>", closing)))
    assert (reader.call, reader.refusal, reader.ended) == ("x = 6 * 7\nx", None, False)


@pytest.mark.parametrize("closing", ["<|end|>", "<|return|>"])
def test_a_call_of_another_tool_is_answered_however_it_is_closed(closing: str) -> None:
    reader = DIALECT.reader(ids("<|channel|>commentary to=functions.x<|message|>{}" + closing))
    assert reader.refusal is not None and "'functions.x'" in reader.refusal
    assert not reader.ended


@pytest.mark.parametrize(
    "text",
    [
        "<|start|>user says \\boxed{8}<|end|>",
        "<|start|>user<|channel|>final \\boxed{8}<|end|>",
        " to=python code \\boxed{8}<|end|>",
        "<|channel|>analysis to=python code \\boxed{8}<|end|>",
    ],
)
def test_what_others_say_or_code_without_a_header_is_no_answer(text: str) -> None:
    assert DIALECT.answer(wrote(text), RULE) is None
