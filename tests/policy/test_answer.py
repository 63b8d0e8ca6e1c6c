import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.config import AnswerConfig
from solver.policy.answer import read_answer

RULE = AnswerConfig()


def test_pitfall_8_echoed_boxes_are_no_answers() -> None:
    own = "So the answer is \\boxed{17}.\n"
    tool = "```output\n\\boxed{99}\n```\n"
    prompt = "> Put the answer in \\boxed{98}.\n"
    example = r"(The form asked for is `\boxed{97}`, or just \boxed{} or \boxed{answer}.)"
    assert read_answer(own + tool + prompt + example, RULE) == 17
    assert read_answer(tool + prompt + example, RULE) is None


@pytest.mark.parametrize(
    ("box", "value"),
    [
        (r"\text{17}", 17),
        ("1{,}234", 1234),
        ("36_000", 36_000),
        ("1e4", 10_000),
        ("2^{10}", 1024),
        (r"\frac{10}{2}", 5),
    ],
)
def test_pitfall_8_written_forms_are_read(box: str, value: int) -> None:
    assert read_answer(rf"Hence \boxed{{{box}}}.", RULE) == value


def test_pitfall_8_a_power_is_not_its_base() -> None:
    wide = AnswerConfig(maximum=100_000)
    assert read_answer("final answer is 10^5", wide) is None
    assert read_answer(r"final answer is \boxed{10^5}", wide) == 100_000
    assert read_answer(r"final answer is \boxed{10^5}", RULE) is None


@pytest.mark.parametrize("last", ["100000", "-1", "3.5", "x", "", r"3 \text{ or } 4", "9^{9^{4}}"])
def test_pitfall_8_a_useless_last_box_hides_no_good_one(last: str) -> None:
    assert read_answer(rf"\boxed{{3}}, \boxed{{17}} and \boxed{{{last}}}", RULE) == 17


def test_the_last_good_box_wins() -> None:
    assert read_answer(r"\boxed{3}, no: \boxed{4}", RULE) == 4


def test_no_box_no_answer() -> None:
    assert read_answer("the answer is 17", RULE) is None
    assert read_answer(r"\boxed{17", RULE) is None


@given(st.integers(-(10**9), 10**9), st.integers(-50, 50), st.integers(0, 100))
def test_out_of_range_is_never_clamped(value: int, minimum: int, width: int) -> None:
    rule = AnswerConfig(minimum=minimum, maximum=minimum + width, fallback=minimum)
    expected = value if minimum <= value <= minimum + width else None
    assert read_answer(rf"\boxed{{{value}}}", rule) == expected


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**5))
def test_modulus_comes_before_the_range(value: int, modulus: int) -> None:
    rule = AnswerConfig(modulus=modulus, maximum=99_999)
    assert read_answer(rf"\boxed{{{value}}}", rule) == value % modulus


def test_range_holds_after_the_modulus() -> None:
    rule = AnswerConfig(modulus=1000, minimum=0, maximum=500)
    assert read_answer(r"\boxed{1400}", rule) == 400
    assert read_answer(r"\boxed{-1}", rule) is None
