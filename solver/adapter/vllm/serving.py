"""The flags with which a stock vLLM server serves an adapter, and how a score is read from its answer.

A score is an ordinary completion of one id: the prompt is the prefix followed by the [STOP] ids, and
the plugin (`plugin.py`) turns the last row's logits into two finite ones, 0 at `WRONG_ID` and the
score at `RIGHT_ID`. So the difference of the two log-probabilities is the score, whatever else the
server does. A server without the plugin answers with other ids, and is told by that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from solver.adapter.fingerprint import read_config
from solver.errors import ModelError, ScorerError

WRONG_ID, RIGHT_ID = 0, 1  # the two ids that carry a score, whatever they mean as text

# The stock classes that the plugin wraps, each as "Stop" + its name.
WRAPPED = (
    "GptOssForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)
ADAPTER_KEY = "stop_adapter"  # in --additional-config
BAN = "solver.adapter.vllm.ban:BanStopIds"  # for --logits-processors

_PROBABILITY_TOLERANCE = 1e-3


def server_flags(adapter: Path, model_folder: Path) -> list[str]:
    """The flags that make a stock vLLM server of `model_folder` serve the adapter folder.

    Raises `ModelError` for a folder that is no model's and an architecture that is not wrapped.
    """
    named = read_config(model_folder).get("architectures") or ["none"]
    if named[0] not in WRAPPED:
        raise ModelError(
            f"the STOP adapter cannot be served on vLLM for {named[0]} ({model_folder}), only for "
            f"{', '.join(WRAPPED)}: choose another prune.scorer or model"
        )
    return [
        "--hf-overrides",
        json.dumps({"architectures": [f"Stop{named[0]}"]}),
        "--additional-config",
        json.dumps({ADAPTER_KEY: str(adapter.resolve())}),
        "--logits-processors",
        BAN,
    ]


def adapter_folder(additional_config: object) -> Path:
    """The adapter that a server was told to serve (its --additional-config). Raises `ModelError`."""
    settings = additional_config if isinstance(additional_config, dict) else {}
    if not isinstance(folder := settings.get(ADAPTER_KEY), str):
        raise ModelError(
            "the server is to serve a STOP adapter but was not told which: start it with "
            f'--additional-config \'{{"{ADAPTER_KEY}": "FOLDER"}}\''
        )
    return Path(folder)


def read_logit(top_logprobs: Mapping[int, float]) -> float:
    """The score (a logit) from the log-probabilities of the best ids after the last [STOP].

    Raises `ScorerError` where they are not a score: the server has no plugin or no adapter.
    """
    best = sorted(top_logprobs, key=lambda token: -top_logprobs[token])[:2]
    wrong, right = top_logprobs.get(WRONG_ID, -math.inf), top_logprobs.get(RIGHT_ID, -math.inf)
    logit = right - wrong
    whole = abs(math.exp(wrong) + math.exp(right) - 1) <= _PROBABILITY_TOLERANCE
    if {*best} != {WRONG_ID, RIGHT_ID} or not (whole and math.isfinite(logit)):
        raise ScorerError(
            f"the server's answer to [STOP] is no score (its best ids are {best}): it runs without "
            "the STOP plugin or adapter; install stop-solver beside its vLLM and start it with the "
            "flags of docs/vllm.md"
        )
    return logit
