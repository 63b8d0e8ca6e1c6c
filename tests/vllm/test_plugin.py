"""The shipped adapter on a real server, against the transformers engine and a stock server."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any

import pytest

from solver.adapter.folder import read_spec
from solver.config import ModelConfig
from solver.embedded.corpus import trajectory
from solver.embedded.tokens import encode, load_tokenizer
from solver.engines.transformers import load
from solver.errors import ScorerError
from solver.scorers.stop import StopScorer
from solver.types import Trajectory
from tests.vllm.conftest import ADAPTER, WEIGHTS, Server

pytestmark = pytest.mark.timeout(600)  # the first test of a session waits for the servers' start

SPEC = read_spec(ADAPTER)
SAMPLINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.0, "seed": 7},
    {"temperature": 0.8, "top_p": 0.9, "top_k": 40, "min_p": 0.02, "seed": 8},
]


def prefixes(count: int) -> list[list[int]]:
    """Trajectories of the corpus, cut anywhere after the prompt: the same in every run."""
    tokenizer, draw, cut = load_tokenizer(WEIGHTS), random.Random(5), []
    for index in range(count):
        ids = encode(tokenizer, trajectory(index, seed=11)).ids
        cut.append(ids[: draw.randint(8, len(ids) - 1)])
    return cut


async def reference_scores(cut: list[list[int]]) -> list[float]:
    engine = load(ModelConfig(path=str(WEIGHTS), device="cpu", dtype="float32", threads=1))
    async with engine:
        scorer = await StopScorer.open(
            engine, ADAPTER, WEIGHTS, marks=(), dialect=SPEC.dialect, prompt=SPEC.prompt
        )
        trajectories = [Trajectory("p", n, 0, tuple(ids)) for n, ids in enumerate(cut)]
        scores = await scorer.score(trajectories, inf)
        scorer.close()
        return scores


def generate(server: Server, ids: list[int], **params: Any) -> tuple[list[int], list[float]]:
    choice = server.complete(ids, max_tokens=48, logprobs=2, **params)["choices"][0]
    return choice["token_ids"], choice["logprobs"]["token_logprobs"]


def test_scores_equal_the_transformers_engines(server: Server) -> None:
    cut = prefixes(100)
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(server.score, cut))
    expected = asyncio.run(reference_scores(cut))
    assert scores == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 5  # they differ enough for this to mean something


def test_a_score_reuses_the_cached_prefix_and_leaves_it_for_the_resume(server: Server) -> None:
    [ids] = prefixes(1)
    sampled, _ = generate(server, ids, temperature=0, stop_token_ids=[SPEC.stop_token_ids[0]])
    prefix = [*ids, *sampled]
    for suffix in (SPEC.stop_token_ids, ()):
        answer = server.complete([*prefix, *suffix], max_tokens=1, temperature=0)
        cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached >= len(prefix) - 2 * 32


def test_base_generations_have_the_bits_of_a_stock_server(
    server: Server, stock_server: Server
) -> None:
    for ids in prefixes(4):
        for params in SAMPLINGS:
            assert generate(server, ids, **params) == generate(stock_server, ids, **params)


def test_generations_do_not_notice_scores_beside_them(server: Server, stock_server: Server) -> None:
    cut = prefixes(12)
    jobs = [(ids, params) for ids in cut[:6] for params in SAMPLINGS]
    alone = [generate(stock_server, ids, **params) for ids, params in jobs]
    with ThreadPoolExecutor(24) as pool:
        running = [pool.submit(generate, server, ids, **params) for ids, params in jobs]
        scores = [pool.submit(server.score, ids) for ids in cut * 4]
        together = [future.result() for future in running]
        assert len({round(score.result(), 3) for score in scores}) == len(cut)
    assert [ids for ids, _ in together] == [ids for ids, _ in alone]
    for (_, found), (_, expected) in zip(together, alone, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)  # another batch, another rounding


@pytest.mark.parametrize("params", SAMPLINGS)
def test_no_client_can_make_it_sample_a_stop_id(
    server: Server, stock_server: Server, params: dict[str, Any]
) -> None:
    [ids] = prefixes(1)
    wish = {str(token): 100 for token in SPEC.stop_token_ids}
    wished, _ = generate(stock_server, ids, logit_bias=wish, **params)
    assert set(wished) <= set(SPEC.stop_token_ids)  # a stock server grants it
    assert generate(server, ids, logit_bias=wish, **params) == generate(
        stock_server, ids, logit_bias=dict.fromkeys(wish, -100), **params
    )


def test_a_server_without_the_adapter_is_told(stock_server: Server) -> None:
    with pytest.raises(ScorerError, match="without the STOP plugin"):
        stock_server.score(prefixes(1)[0])
