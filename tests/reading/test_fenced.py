"""What models with a chat template write, as a user would read it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.limits import Limits
from sandbox.result import ExecutionResult, ExecutionStatus, for_model
from solver.config import AnswerConfig
from solver.dialects.fenced import FencedDialect
from solver.policy.fences import Fences, fences_of
from solver.policy.integers import read_integer
from solver.types import Trajectory, Turn
from tests.reading.cases import of
from tests.support import byte_tokenizer

TOKENIZER = byte_tokenizer()
DIALECT = FencedDialect(TOKENIZER, "bare", Limits())
RULE = AnswerConfig()
END = "<|end|>"


def ids(text: str) -> list[int]:
    encoded: list[int] = TOKENIZER.encode(text, add_special_tokens=False)
    return encoded


def wrote(text: str, statement: str = "1+1?") -> Trajectory:
    return Trajectory("p", 0, 1, tuple(DIALECT.prompt(statement)), [Turn(ids(text))])


def forced(trajectory: Trajectory, sampled: str = "42}") -> Trajectory:
    trajectory.turns[-1].appended_token_ids = tuple(DIALECT.final_opening(trajectory))
    trajectory.turns.append(Turn(ids(sampled)))
    return trajectory


@of("box")
def test_a_box(case: dict[str, Any]) -> None:
    assert read_integer(case["input"]) == case["expected"]


@of("final text")
def test_a_final_text(case: dict[str, Any]) -> None:
    assert DIALECT.answer(wrote(case["input"] + END), RULE) == case["expected"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So maybe \\boxed{41}? no.\n</think>\n```latex\n\\boxed{42}\n```\n", 42),
        ("Put it in \\boxed{answer}.\n</think>\n> **\\boxed{42}**\n", 42),
        ("It is \\boxed{42}.\n</think>\nSo it is done.", 42),
        ("It is \\boxed{41}.\n</think>\nIt is \\boxed{42}.", 42),
        ("It is \\boxed{42}.\n</think>\nIt is \\boxed{x}.", 42),
        ("`\\boxed{42}`\n</think>\nDone.", 42),
        ("It is \\boxed{41}.\n```python\nprint('</think>')\n```\nNo, \\boxed{42}.", 42),
        ("```\nIt is \\boxed{41}.\n</think>\nIt is \\boxed{42}.", 42),
    ],
)
def test_what_is_said_behind_the_thought_decides(text: str, answer: int) -> None:
    assert DIALECT.answer(wrote(f"<think>{text}{END}"), RULE) == answer
    assert DIALECT.answer(wrote(f"{text}{END}"), RULE) == answer, "the prompt opened the thought"


def test_a_placeholder_in_the_thought_is_no_answer() -> None:
    """So that a model which concludes without a box is asked."""
    assert DIALECT.boxes(wrote(f"In \\boxed{{answer}}.\n</think>\n```\n42\n```\n{END}")) == []
    assert DIALECT.boxes(wrote(f"Hm.\n</think>\nIt is \\boxed{{x}}.{END}")) == ["x"]


@of("cut here, answer forced with 42")
def test_a_forced_answer(case: dict[str, Any]) -> None:
    assert DIALECT.answer(forced(wrote(case["input"])), RULE) == case["expected"]


@of("call")
def test_a_call(case: dict[str, Any]) -> None:
    reader = DIALECT.reader(ids(case["input"]))
    assert (reader.call, reader.refusal) == (case["expected"], None)


@of("statement holds it, the model does not think")
def test_a_statement_with_a_tag(case: dict[str, Any]) -> None:
    trajectory = wrote("Well", case["input"])
    assert DIALECT.text(DIALECT.final_opening(trajectory)) == "\nThe answer is \\boxed{"


# Fences


@pytest.mark.parametrize(
    "text",
    [
        "```ipython\nprint(1)\n```\n",
        "```PYTHON3\nprint(1)\n```\n",
        "  ```python\n  print(1)\n  ```\n",
        "1. ```python\n   print(1)\n   ```\n",
        "~~~py\nprint(1)\n~~~\n",
        "~~~~ python\nprint(1)\n~~~~~\n",
        "```{python}\nprint(1)\n```\n",
        "```{.python .numberLines}\nprint(1)\n```\n",
        "```python:main.py\nprint(1)\n```\n",
        "```python\nprint(1)```\n",
        "```python\nprint(1)\n```</think>\n",
        "<think>\n```\nx\n</think>\n```python\nprint(1)\n```\n",
        "> quoted\n```python\nprint(1)\n```\n",
    ],
)
def test_python_however_it_is_fenced_is_run(text: str) -> None:
    reader = DIALECT.reader(ids(text))
    assert (reader.call, reader.refusal) == ("print(1)", None)


@pytest.mark.parametrize(
    "text",
    [
        "> ```python\n> print(1)\n> ```\n",
        "```pycon\nprint(1)\n```\n",
        "```sage\nprint(1)\n```\n",
        "````python\nprint(1)\n```\n",
        "~~~python\nprint(1)\n```\n",
        "```python\nprint('a')\n</think>\n",
        "So: ```python\nprint(1)\n```\n",
    ],
)
def test_anything_else_is_not_run(text: str) -> None:
    assert DIALECT.reader(ids(text)).call is None


def test_an_indented_block_loses_its_indent_and_no_more() -> None:
    text = "- ```python\n  for i in (1,):\n      print(i)\n\n  ```\n"
    assert DIALECT.reader(ids(text)).call == "for i in (1,):\n    print(i)\n"


def test_a_tag_inside_code_is_code() -> None:
    code = "print(text.split('</think>'))"
    assert DIALECT.reader(ids(f"```python\n{code}\n```\n")).call == code


@pytest.mark.parametrize(
    "block", ["```c\nint x;\n```", "```\nprint(1)\n```", "Run: ```python\nprint(1)\n```"]
)
def test_a_turn_that_ends_with_a_block_that_does_not_run_is_told_so(block: str) -> None:
    reader = DIALECT.reader(ids(f"{block}\n\n{END}"))
    assert reader.ended and reader.call is not None and reader.refusal is not None
    refused = ExecutionResult(status=ExecutionStatus.REFUSED, stderr=reader.refusal)
    assert "```python" in for_model(refused, Limits())


@pytest.mark.parametrize(
    "text",
    [
        "```c\nint x;\n```\nSo the answer is 3.",
        "```latex\n\\boxed{42}\n```",
        "\\boxed{42}, in C:\n```c\nint x;\n```",
        "```c\nint x;\n",
    ],
)
def test_a_turn_that_says_something_else_is_not_told(text: str) -> None:
    reader = DIALECT.reader(ids(text + END))
    assert reader.ended and reader.call is None


FENCES = ["```", "````", "~~~", "`", "``", "- ", "1. ", "> ", ">=", "</think>", "<think>"]
WORDS = [
    "python",
    "py",
    "latex",
    "x = 1",
    "print(1)",
    "\\boxed{7}",
    "\\text{a}",
    "{",
    "}",
    "$",
    "é∑",
]
PIECES = st.lists(
    st.sampled_from([*FENCES, *WORDS, "\n", "\n\n", " ", "  ", "'", '"']), max_size=25
).map("".join)


@given(text=PIECES, ends=st.booleans(), data=st.data())
def test_reading_in_two_pieces_is_reading_at_once(
    text: str, ends: bool, data: st.DataObject
) -> None:
    whole = ids(text + (END if ends else ""))
    at_once = DIALECT.reader(whole)
    cut = data.draw(st.integers(0, len(whole)))
    reader = DIALECT.reader(whole[:cut])
    for token_id in whole[cut:]:
        reader.feed(token_id)
    assert (reader.call, reader.refusal, reader.ended) == (
        at_once.call,
        at_once.refusal,
        at_once.ended,
    )
    assert reader.open_fence() == at_once.open_fence()


@given(text=PIECES)
def test_what_runs_is_what_is_no_own_text(text: str) -> None:
    """One reader: the block that is called is the first block that runs among those of the text."""
    fences, runs = Fences(), None
    for line in text.split("\n"):
        block = fences.read(line)
        if runs is None and block is not None and block.runs:
            runs = block.code
    assert DIALECT.reader(ids(text + "\n")).call == runs
    assert fences_of(text).own == fences.own


@given(before=PIECES, text=PIECES, thinks=st.booleans())
def test_a_forced_answer_is_always_read(before: str, text: str, thinks: bool) -> None:
    trajectory = wrote(("<think>" if thinks else "") + text)
    trajectory.turns.insert(
        0, Turn(ids(before), execution=ExecutionResult(status=ExecutionStatus.OK))
    )
    trajectory.turns[0].appended_token_ids = tuple(ids("```output\n" + text))
    assert DIALECT.answer(forced(trajectory), RULE) == 42


@given(text=PIECES)
def test_a_forced_answer_after_an_ended_turn_is_always_read(text: str) -> None:
    trajectory = wrote(text + END)
    opening = DIALECT.text(DIALECT.final_opening(trajectory))
    assert opening.startswith("\n<|user|>\n") and opening.endswith("The answer is \\boxed{")
    assert DIALECT.answer(forced(trajectory), RULE) == 42


def test_a_tools_thought_is_not_the_models() -> None:
    trajectory = wrote("<think>Hm")
    trajectory.turns[0].execution = ExecutionResult(status=ExecutionStatus.OK, stdout="</think>")
    trajectory.turns[0].appended_token_ids = tuple(
        DIALECT.tool_message(trajectory, trajectory.turns[0].execution)
    )
    trajectory.turns.append(Turn())
    assert DIALECT.text(DIALECT.final_opening(trajectory)).startswith("</think>\n\n")


# Boxes


@pytest.mark.parametrize(
    "text",
    [
        "So it is\n\n```\n\\boxed{42}\n```",
        "So it is\n\n~~~tex\n$\\boxed{42}$\n~~~\n\nThat was easy.",
        "The answer is `\\boxed{42}`.",
        "> The answer is \\boxed{42}.",
        "\\fbox{42}",
        "It is $\\boxed 42$ in all.",
        "<think>so\n```\n</think>\nHence \\boxed{42}",
    ],
)
def test_a_box_that_counts(text: str) -> None:
    assert DIALECT.answer(wrote(text + END), RULE) == 42


@pytest.mark.parametrize(
    "text",
    [
        "```python\n\\boxed{42}\n",
        "```output\n\\boxed{42}\n```\nHm.",
        "The form `\\boxed{42}` is asked for. " + "We add the numbers one by one. " * 10,
        "`\\boxed{42}` is not \\boxed{x}",
        "$\\boxed 42^2$",
    ],
)
def test_a_box_that_does_not_count(text: str) -> None:
    assert DIALECT.answer(wrote(text + END), RULE) is None


def test_a_quoted_box_before_a_call_does_not_count() -> None:
    trajectory = wrote("`\\boxed{7}`\n```python\n1\n```\n")
    trajectory.turns[0].execution = ExecutionResult(status=ExecutionStatus.OK)
    trajectory.turns.append(Turn(ids("I do not know." + END)))
    assert DIALECT.answer(trajectory, RULE) is None


def test_an_open_fence_hides_no_later_turn() -> None:
    trajectory = wrote("```c\nx\n")
    trajectory.turns[0].execution = ExecutionResult(status=ExecutionStatus.REFUSED)
    trajectory.turns.append(Turn(ids("\\boxed{42}" + END)))
    assert DIALECT.answer(trajectory, RULE) == 42
