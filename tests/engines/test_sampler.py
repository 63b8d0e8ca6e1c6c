"""Each filter against its plain definition, and the draw against the distribution."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from solver.engines.sampler import Sampler, uniforms
from solver.types import SamplingParams

CPU = torch.device("cpu")
DIMENSIONS = 12
NOISE = 1e-6  # relative: probabilities over a whole vocabulary are float32
LOGITS = st.lists(st.integers(-40, 40), min_size=DIMENSIONS, max_size=DIMENSIONS)
FILTERS = st.builds(
    SamplingParams,
    max_tokens=st.just(1),
    seed=st.integers(-(2**63), 2**64),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.8]),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.999)),
    top_k=st.integers(0, DIMENSIONS + 3),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 0.9)),
    banned_token_ids=st.frozensets(st.integers(0, DIMENSIONS + 3), max_size=6),
)


def kept(logits: list[float], params: SamplingParams) -> dict[int, float]:
    """The distribution that is sampled, as the definitions say it; ties are kept together."""
    scores = {
        token: logit / params.temperature
        for token, logit in enumerate(logits)
        if token not in params.banned_token_ids
    }
    if params.top_k:
        least = sorted(scores.values(), reverse=True)[: params.top_k][-1]
        scores = {token: score for token, score in scores.items() if score >= least}
    if params.top_p < 1:
        total = sum(math.exp(score) for score in scores.values())
        mass = 0.0
        for score in sorted(scores.values(), reverse=True):
            least = score
            mass += math.exp(score) / total
            assume(abs(mass - params.top_p) > NOISE)
            if mass >= params.top_p:
                break
        scores = {token: score for token, score in scores.items() if score >= least}
    best = max(scores.values())
    if params.min_p:
        assume(all(abs(math.exp(s - best) - params.min_p) > 1e-9 for s in scores.values()))
        scores = {t: s for t, s in scores.items() if math.exp(s - best) >= params.min_p}
    total = sum(math.exp(score - best) for score in scores.values())
    return {token: math.exp(score - best) / total for token, score in scores.items()}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(LOGITS, FILTERS), min_size=1, max_size=4), st.integers(0, 10_000))
def test_rows_are_filtered_and_drawn_as_defined(
    rows: list[tuple[list[int], SamplingParams]], position: int
) -> None:
    logits = torch.tensor([[value / 8 for value in row] for row, _ in rows])
    params = [p for _, p in rows]
    sampler = Sampler(params, DIMENSIONS, CPU)
    drawn = sampler.sample(logits, [position] * len(rows))
    for number, (row, p) in enumerate(rows):
        expected = kept([value / 8 for value in row], p)
        draw = uniforms(sampler.seeds, [position] * len(rows))[number]
        mass, token = 0.0, -1
        for token in sorted(expected):
            mass += expected[token]
            assume(abs(mass - draw) > NOISE)
            if mass > draw:
                break
        assert drawn[number][0] == token
        raw = logits[number].log_softmax(-1)[token]
        assert drawn[number][1] == pytest.approx(float(raw), abs=1e-6)
        alone = Sampler([p], DIMENSIONS, CPU).sample(logits[number : number + 1], [position])
        assert alone == drawn[number : number + 1]


def by_definition(logits: np.ndarray, p: SamplingParams) -> tuple[np.ndarray, float]:
    """Which ids of a whole vocabulary are kept, and how near top-p came to another choice."""
    scores = logits.astype(np.float64) / p.temperature
    banned = [token for token in p.banned_token_ids if token < len(scores)]
    scores[banned] = -np.inf
    kept, margin = np.isfinite(scores), 1.0
    if p.top_k:
        kept &= scores >= np.sort(scores)[::-1][min(p.top_k, len(scores)) - 1]
    if p.top_p < 1:
        weights = np.where(kept, np.exp(scores - scores.max()), 0)
        falling = np.sort(weights)[::-1]
        sums = falling.cumsum() / falling.sum()
        last = int(np.searchsorted(sums, p.top_p))
        margin = float(np.abs(sums - p.top_p).min())
        kept &= weights >= falling[last]
    if p.min_p:
        shares = np.exp(scores - scores.max())
        margin = min(margin, float(np.abs(shares - p.min_p).min()))
        kept &= shares >= p.min_p
    return kept, margin


@settings(max_examples=150, deadline=None)
@given(
    st.lists(FILTERS, min_size=1, max_size=9),
    st.one_of(st.integers(1, 1500), st.integers(2000, 20_000)),
    st.sampled_from([1, 3, 40, 5000]),
    st.sampled_from([0.5, 3.0, 9.0]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_a_large_vocabulary_is_filtered_as_defined(
    params: list[SamplingParams], vocab: int, levels: int, spread: float, flat: bool, seed: int
) -> None:
    """Few levels make ties, within blocks and across them; bans fall on the best ids as well."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, levels, (len(params), vocab)) / levels * spread
    if not flat:
        rows[:, draw.integers(0, vocab, 5)] += 8
    best = frozenset(map(int, np.argsort(-rows[0])[: min(4, vocab - 1)]))
    params = [
        replace(
            p,
            top_k=p.top_k * int(draw.integers(1, 40)),
            banned_token_ids=best if p.banned_token_ids else frozenset(),
        )
        for p in params
    ]
    logits = torch.from_numpy(rows).float()
    sampler = Sampler(params, vocab, CPU)
    found = sampler.distribution(logits).numpy()
    drawn = sampler.sample(logits, list(range(len(params))))
    for row, p in enumerate(params):
        kept, margin = by_definition(logits[row].numpy(), p)
        if margin > NOISE:
            assert ((found[row] > 0) == kept).all()
        scores = np.where(kept, logits[row].double().numpy() / p.temperature, -np.inf)
        weights = np.exp(scores - scores.max())
        if margin > NOISE:
            assert found[row] == pytest.approx(weights / weights.sum(), rel=NOISE, abs=1e-12)
        cdf = found[row].cumsum()
        number = uniforms(sampler.seeds[row : row + 1], [row])[0]
        if np.abs(cdf - number).min() > 1e-9:
            assert drawn[row].token == np.searchsorted(cdf, number, side="right")
        logprobs = logits[row].double().log_softmax(-1)
        top = logprobs.sort(descending=True).values[:20]
        assert drawn[row].logprob == pytest.approx(float(logprobs[drawn[row].token]), abs=1e-5)
        assert drawn[row].confidence == pytest.approx(-float(top.mean()), abs=1e-5)
        entropy = float(torch.special.entr(top.softmax(-1)).sum())
        assert drawn[row].entropy == pytest.approx(entropy, abs=1e-5)


NUCLEI = {
    "ties beyond the heaviest blocks": np.zeros(4001),
    "in more blocks than are tried first": -0.01 * (np.arange(4000) // 64),
    "in almost all blocks": -1e-4 * (np.arange(70_000) // 64),
    "one id in each block": np.where(np.arange(4000) % 64 == 0, 9.0, 0.0),
    "the last one as heavy as one elsewhere": np.where(np.arange(4000) % 250 == 0, 9.0, -9.0),
}


@pytest.mark.parametrize("shape", NUCLEI)
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.95])
def test_a_nucleus_is_whole_however_many_blocks_it_lies_in(shape: str, top_p: float) -> None:
    params = SamplingParams(1, seed=0, top_p=top_p)
    for row in (NUCLEI[shape], np.random.default_rng(0).permutation(NUCLEI[shape])):
        logits = torch.from_numpy(row).float()[None]
        found = Sampler([params], len(row), CPU).distribution(logits)[0].numpy()
        kept, margin = by_definition(logits[0].numpy(), params)
        assert margin > 1e-9 and ((found > 0) == kept).all()


@pytest.mark.parametrize("how", [{}, {"top_k": 40, "top_p": 0.95}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_rows_that_are_not_finite_harm_no_other(how: dict[str, Any]) -> None:
    """150,000 ids; a row alone draws what it draws in company, whatever stands beside it."""
    vocab = 150_001
    torch.manual_seed(1)
    logits = torch.randn(4, vocab) * 3
    logits[1], logits[2, 7] = float("nan"), float("inf")
    params = [SamplingParams(1, seed, **how) for seed in range(4)]
    together = Sampler(params, vocab, CPU).sample(logits, [5] * 4)
    for row in (0, 3):
        alone = Sampler([params[row]], vocab, CPU).sample(logits[row : row + 1], [5])
        assert together[row].token == alone[0].token
    assert not any(math.isfinite(together[row].logprob) for row in (1, 2))


def test_greedy_rows_among_others() -> None:
    params = [
        SamplingParams(1, 0, temperature=t, banned_token_ids=b)
        for t, b in [(0.0, frozenset()), (1.0, frozenset({2})), (0.0, frozenset({2}))]
    ]
    logits = torch.tensor([[0.0, 1.0, 9.0]] * 3)
    tokens = [draw.token for draw in Sampler(params, 3, CPU).sample(logits, [4, 4, 4])]
    assert (tokens[0], tokens[2]) == (2, 1)
    assert tokens[1] in (0, 1)


def test_candidates_are_described_from_the_raw_logits() -> None:
    values = [((7 * n) % 31) / 3 for n in range(31)]
    raw = [value - math.log(sum(math.exp(v) for v in values)) for value in values]
    best = sorted(raw, reverse=True)[:20]
    shares = [math.exp(p) / sum(math.exp(q) for q in best) for p in best]
    params = [SamplingParams(1, 3, temperature=0.4, top_k=2, banned_token_ids=frozenset({5}))]
    [draw] = Sampler(params, 31, CPU).sample(torch.tensor([values]), [8])
    assert draw.confidence == pytest.approx(-sum(best) / 20, abs=1e-5)
    assert draw.entropy == pytest.approx(-sum(p * math.log(p) for p in shares), abs=1e-5)
    [few] = Sampler(params, 3, CPU).sample(torch.zeros(1, 3), [8])
    assert (few.confidence, few.entropy) == pytest.approx((math.log(3), math.log(3)))


def test_draws_follow_the_distribution() -> None:
    count = 40_000
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, -4.0]])
    sampler = Sampler([SamplingParams(1, seed) for seed in range(count)], 5, CPU)
    tokens = [draw.token for draw in sampler.sample(logits.expand(count, 5), [17] * count)]
    expected = logits[0].softmax(-1).numpy() * count
    found = np.bincount(tokens, minlength=5)
    assert ((found - expected) ** 2 / expected).sum() < 23.5  # chi-square, 4 degrees, p = 1e-4


def test_uniforms_depend_on_seed_and_position_only() -> None:
    seeds = np.array([0, 1, 2**64 - 1, 12345], dtype=np.uint64)
    numbers = uniforms(seeds, [0, 5, 7, 1 << 20])
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert uniforms(seeds[2:3], [7])[0] == numbers[2]
    # pinned: another value would change every recorded run
    assert uniforms(np.array([42], dtype=np.uint64), [100])[0] == 0.673550727720063
    grid = uniforms(np.arange(200, dtype=np.uint64).repeat(200), list(range(200)) * 200)
    assert len(np.unique(grid)) == 40_000
    assert abs(grid.mean() - 0.5) < 0.006
    assert abs(np.corrcoef(grid[:-1], grid[1:])[0, 1]) < 0.02
    table = grid.reshape(200, 200)
    assert abs(np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]) < 0.02
