r"""Which answer a text gives: the last box that reads as an integer in range."""

from __future__ import annotations

from collections.abc import Sequence

from solver.config import AnswerConfig
from solver.policy.boxes import boxed
from solver.policy.integers import read_integer

__all__ = ["FORCED_TOKENS", "boxed", "last_answer", "read_answer", "read_integer"]

FORCED_TOKENS = 16  # sampled when an answer is forced: any integer and its closing brace


def read_answer(text: str, rule: AnswerConfig) -> int | None:
    r"""The answer of a model's own text under `rule`, or None if no box gives one.

    The text must be the model's alone: of a prompt or a tool's output only boxes in blocks, quotes and
    inline code are passed over.
    """
    return last_answer(boxed(text), rule)


def last_answer(boxes: Sequence[str], rule: AnswerConfig) -> int | None:
    r"""The last of these contents of boxes that reads as an integer and is in range, or None.

    The range holds after Python's modulo if `rule.modulus` is set: an unreadable or out-of-range last
    box does not hide an earlier good one. Out of range is no answer, never clamped.
    """
    for content in reversed(boxes):
        value = read_integer(content)
        if value is None:
            continue
        if rule.modulus is not None:
            value %= rule.modulus
        if rule.minimum <= value <= rule.maximum:
            return value
    return None
