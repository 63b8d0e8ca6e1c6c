"""Harmony for tests: a dialect over the real vocabulary, and texts with marks as ids."""

from __future__ import annotations

from functools import cache

import pytest

from sandbox.limits import Limits
from solver.config import HarmonyConfig
from solver.dialects.harmony import HarmonyDialect
from solver.errors import ConfigError

THOUGHT = "<|channel|>analysis<|message|>We add the numbers é∑.<|end|>"
CALL = "<|channel|>analysis to=python code<|message|>x = 6 * 7\nx<|call|>"
FINAL = "<|channel|>final<|message|>It is \\boxed{42}.<|return|>"
NEXT = "<|start|>assistant"


@cache
def dialect() -> HarmonyDialect:
    """The dialect as it is opened for a run; skips the module that asks if its vocabulary is absent."""
    try:
        return HarmonyDialect.open(HarmonyConfig(), "harmony", Limits())
    except ConfigError as error:
        how = "python -m tests.fetch_vocabulary .venv/share/o200k_base.tiktoken"
        pytest.skip(f"{error} (for tests: {how})", allow_module_level=True)


def ids(text: str) -> list[int]:
    """Text as ids; marks of the format that it spells out are marks."""
    return list(dialect()._encoding.encode(text, allowed_special="all"))
