"""Small cases of what models write and what files hold, each with what a user expects of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).with_name("cases.jsonl")
CASES: list[dict[str, Any]] = [
    json.loads(line) for line in _FILE.read_text(encoding="utf-8").splitlines()
]


def of(kind: str) -> Any:
    """Run a test on every case of `kind`: it takes `case`, and is named by the case's input."""
    cases = [case for case in CASES if case["kind"] == kind]
    assert cases, f"no case of kind {kind!r}"
    return pytest.mark.parametrize("case", cases, ids=[case["input"] for case in cases])
