import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.policy.answer import boxed
from solver.policy.braces import closing_braces


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        (r"so \boxed{5}.", ["5"]),
        (r"\fbox{5} and \boxed {6}", ["5", "6"]),
        (r"\boxed{\frac{1}{2}}", [r"\frac{1}{2}"]),
        (r"\boxed{\boxed{5}}", [r"\boxed{5}"]),
        (r"\boxed{5} then \boxed{6", ["5"]),
        (r"\boxed{never closed, but \boxed{6} is", ["6"]),
        (r"a stray } and a stray { do not hide \boxed{7}", ["7"]),
        (r"\boxed{\{7\}}", [r"\{7\}"]),
        (r"\boxed{}", [""]),
        (r"\boxed 5, \boxedness{5}", ["5"]),
        (r"$\boxed 1,234$ or \boxed -7 as", ["1,234", "-7"]),
        (r"\boxed 5^2, \boxed 5x, \boxed 5\pi, \boxed x", []),
        ("\\boxed{\n17}", ["\n17"]),
        ("no box", []),
        ("", []),
    ],
)
def test_boxes_of_plain_text(text: str, contents: list[str]) -> None:
    assert boxed(text) == contents


@pytest.mark.parametrize(
    "hidden",
    [
        "```python\nprint(r'\\boxed{99}')\n```",
        "```output\n\\boxed{99}\n```",
        "````\n```\n\\boxed{99}\n```\n````",
        "~~~\n\\boxed{99}\n~~~",
        "  ```\n  \\boxed{99}\n  ```",
        "I run this: ```python\n\\boxed{99}\n```",
        r"the form `\boxed{99}` is asked for",
        r"the form ``\boxed{99}`` is asked for",
        r"```\boxed{99}```",
        "> put it in \\boxed{99}",
        "  > quoted \\boxed{99}",
    ],
)
def test_quoted_boxes_do_not_count_and_hide_no_others(hidden: str) -> None:
    assert boxed(f"\\boxed{{1}}\n{hidden}\n\\boxed{{2}}") == ["1", "2"]


def test_open_fence_hides_the_rest() -> None:
    assert boxed("\\boxed{1}\n```python\n\\boxed{2}") == ["1"]


def test_fence_closed_before_a_control_token_is_closed() -> None:
    assert boxed("```python\nx\n```<|im_end|>So \\boxed{1}") == ["1"]
    assert boxed("```python\nx\n```</think>\n\\boxed{1}") == ["1"]


def test_single_backtick_and_comparison_hide_nothing() -> None:
    assert boxed("the value ` of\n\\boxed{1}\n>= \\boxed{2} `") == ["1", "2"]
    assert boxed(r"``quoted'' \boxed{1}") == ["1"]


def test_code_inside_a_box_makes_it_unreadable_rather_than_shorter() -> None:
    (content,) = boxed(r"\boxed{1`0`2}")
    assert content not in ("12", "102", "1 2")


@pytest.mark.parametrize("unit", ["{", "}", r"\boxed{", "`", "` ``", "```\n", "\\", "> `"])
def test_a_megabyte_of_anything_is_read(unit: str) -> None:
    # linear takes about 0.3 s; quadratic would take hours, and the suite's limit ends it
    boxed(unit * (1_000_000 // len(unit)))


@given(st.lists(st.sampled_from(["`", "```", "\n", "{", "}", r"\boxed{", "5", "\\", ">", "~~~"])))
def test_any_text_can_be_read(pieces: list[str]) -> None:
    text = "".join(pieces)
    for content in boxed(text):
        assert content.count("{") - content.count(r"\{") == content.count("}") - content.count(
            r"\}"
        )


@given(st.text("{}ab"))
def test_braces_are_matched(text: str) -> None:
    for start, end in closing_braces(text).items():
        inside = text[start + 1 : end]
        assert text[start] == "{" and text[end] == "}"
        assert inside.count("{") == inside.count("}")
