"""The bodies of requests to /v1/completions. No IO.

Prompts are token ids, and every sampling parameter is sent, so that no default of the server applies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from solver.types import CANDIDATES, SamplingParams

Body = dict[str, Any]


def draw_seed(seed: int, position: int) -> int:
    """The seed (63 bits) of a request that begins at `position`, so that a resumed one draws anew."""
    digest = hashlib.blake2b(f"{seed} {position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def sampling_body(
    ids: Sequence[int], params: SamplingParams, max_tokens: int, vocab_size: int, candidates: bool
) -> Body:
    """Continue `ids` by at most `max_tokens`, streamed. Only the stop ids that were asked for stop it."""
    body: Body = {
        "prompt": list(ids),
        "max_tokens": max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "min_p": params.min_p,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": sorted(params.stop_token_ids),
        "ignore_eos": True,
        "skip_special_tokens": False,
        "logprobs": CANDIDATES if candidates else 0,
        "return_tokens_as_token_ids": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if params.temperature > 0:
        body["seed"] = draw_seed(params.seed, len(ids))
    banned = [token for token in sorted(params.banned_token_ids) if 0 <= token < vocab_size]
    if banned:
        body["logit_bias"] = {str(token): -100 for token in banned}
    return body


def score_body(ids: Sequence[int]) -> Body:
    """Ask for the two most likely ids after `ids`; after [STOP] ids those are the plugin's two classes."""
    return {
        "prompt": list(ids),
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 2,
        "return_tokens_as_token_ids": True,
    }


def prompt_body(ids: Sequence[int]) -> Body:
    """Ask for the log-probability of each prompt id; one id is sampled, the fewest that is allowed."""
    return {"prompt": list(ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
