"""A server is refused with what to change, whatever differs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from solver.adapter.spec import Handshake, StopSpec
from solver.engines.vllm.client import Client
from solver.engines.vllm.handshake import Expected, Facts, verify_server
from solver.engines.vllm.hosts import ServerLost
from solver.errors import ModelError
from tests.engines.vllm_hosts.conftest import Told
from tests.support.fake_vllm import InThread

SPEC = StopSpec(
    base_model="small",
    fingerprint="0" * 64,
    hidden_size=8,
    stop_token_ids=(4, 5, 6, 7),
    mark=32,
    dialect="fenced",
    prompt="bare",
    rank=2,
    alpha=4.0,
    targets=("q_proj",),
    handshake=Handshake(prefix_token_ids=(1, 2, 3), logit=0.25, dtype="float32"),
)
PLAIN = Expected(vocab_size=1024, limit_s=60.0, dtype="float32")
STOP = replace(
    PLAIN,
    adapter=Path("/adapters/small"),
    spec=SPEC,
    stop_flags=("--additional-config", '{"stop_adapter": "/adapters/small"}'),
)
START_IT = 'start it with --additional-config \'{"stop_adapter": "/adapters/small"}\''

Shake = Callable[..., Any]


@pytest.fixture
async def shake(in_thread: Callable[..., InThread], told: Told) -> AsyncIterator[Shake]:
    """Shakes hands with a fake that serves what the test says."""
    clients = []

    async def meet(expected: Expected = STOP, **play: Any) -> Facts:
        clients.append(Client(in_thread(**play).url))
        return await verify_server(clients[-1], expected, told.said.append)

    yield meet
    for client in clients:
        await client.aclose()


async def test_a_server_that_fits_is_described(shake: Shake, told: Told) -> None:
    assert await shake() == Facts("fake", 512, 4096)
    assert await shake(PLAIN, logit=None) == Facts("fake", 512, 4096)
    assert await shake(replace(PLAIN, context_length=256), capacity=None) == Facts(
        "fake", 256, None
    )
    assert not told.said


REFUSED = {
    "short context": (
        {"context_length": 256},
        "has a context of 256 tokens, this run needs 512: start it with --max-model-len 512,"
        " or --set model.context_length=256",
    ),
    "fewer ids": ({"vocab_size": 1000}, "its vocabulary is of 1000 ids, that of this run's"),
    "more ids": ({"vocab_size": 2000}, "its vocabulary is of more than 1024 ids, that of"),
    "processed logprobs": ({"own_logprobs": False}, "start it without --logprobs-mode"),
    "no cache": ({"caches": False}, "--enable-prefix-caching --enable-prompt-tokens-details"),
    "no plugin": (
        {"logit": None},
        f"serves no STOP adapter: install stop-solver beside its vLLM and {START_IT}",
    ),
    "another adapter": (
        {"logit": 0.5},
        "scores the adapter's stored prefix 0.5000, it was 0.2500 when /adapters/small was saved:"
        f" another model, adapter or arithmetic; {START_IT}",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_server_that_differs_is_refused_with_what_to_change(
    shake: Shake, case: str
) -> None:
    play, words = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        await shake(replace(STOP, context_length=512), **play)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value) and "http://127.0.0.1:" in str(caught.value)


async def test_other_arithmetic_has_room_where_it_is_coarse(shake: Shake) -> None:
    await shake(replace(STOP, dtype="bfloat16"), logit=0.4)
    with pytest.raises(ModelError):
        await shake(replace(STOP, dtype="bfloat16"), logit=2.0)


async def test_an_adapter_without_a_stored_prefix_only_has_to_answer(
    shake: Shake, told: Told
) -> None:
    bare = replace(STOP, spec=SPEC.model_copy(update={"handshake": None}))
    await shake(bare, logit=-3.0)
    [line] = told.said
    assert line.startswith("/adapters/small stores no prefix to compare")
    with pytest.raises(ModelError, match="serves no STOP adapter"):
        await shake(bare, logit=None)


async def test_a_server_that_is_gone_is_lost_not_wrong(in_thread: Callable[..., InThread]) -> None:
    fake = in_thread()
    fake.close()
    client = Client(fake.url)
    with pytest.raises(ServerLost):
        await verify_server(client, PLAIN, print)
    await client.aclose()
