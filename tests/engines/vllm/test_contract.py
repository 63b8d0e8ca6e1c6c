"""The contract of engines, on the vLLM engine over a scripted server.

Two promises read differently here: the counts come with the last chunk, and what `release` frees is
the server's to decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.engines.helpers import VOCAB, greedy, prompt, say
from tests.engines.test_contract import (  # noqa: F401
    CONTEXT,
    test_a_full_context_ends_with_length,
    test_a_pause_changes_nothing,
    test_a_pause_is_resumed_from_the_cache,
    test_a_stop_id_ends_the_request_and_is_its_last_id,
    test_aclose_aborts_what_is_open,
    test_cancelling_the_consumer_ends_the_request,
    test_capabilities,
    test_closing_the_generator_ends_the_request,
    test_ids_that_part_from_the_cache_reuse_the_common_prefix,
    test_many_requests_at_once,
    test_max_tokens_below_one_are_refused,
    test_max_tokens_end_with_length,
    test_one_open_request_a_trajectory,
    test_prompt_logprobs,
    test_unusable_ids_are_refused_at_once,
)
from tests.support import fake_vllm


@pytest.fixture
async def engine(rig: Callable[..., Any]) -> Any:
    assert fake_vllm.VOCAB == VOCAB
    return (await rig(context_length=CONTEXT)).engine


async def test_the_last_chunk_alone_tells_what_was_cached(engine: Any) -> None:
    said = await say(engine, "a", prompt(9), greedy(4))
    assert said.counts == (0, 9)
    assert all((c.reused_tokens, c.encoded_tokens) == (0, 0) for c in said.chunks[:-1])


async def test_release_of_unknown_ids_is_fine(engine: Any) -> None:
    await engine.release("never seen")
