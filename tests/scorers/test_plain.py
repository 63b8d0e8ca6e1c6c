"""The scorers that need nothing but trajectories."""

from __future__ import annotations

import asyncio
import math

import pytest

from solver.errors import ScorerError
from solver.ports import Scorer
from solver.scorers.confidence import ConfidenceScorer, DeepConfScorer, EntropyScorer
from solver.scorers.similarity import SimilarityScorer
from tests.scorers.conftest import written


def scored(scorer: Scorer, *trajectories: object) -> list[float]:
    return asyncio.run(scorer.score(trajectories, math.inf))  # type: ignore[arg-type]


def test_confidence() -> None:
    sure = written(0, "abc", logprobs=[-0.1, -0.1, -0.1])
    unsure = written(1, "abc", logprobs=[-0.1, -0.1, -2.0])
    one, other = scored(ConfidenceScorer(), sure, unsure)
    assert one > other


def test_entropy_and_deepconf() -> None:
    steady = written(0, "abcdefgh", entropies=[0.5] * 8, confidences=[4.0] * 8)
    shaky = written(1, "abcdefgh", entropies=[0.1] * 7 + [2.0], confidences=[9.0] * 6 + [1.0] * 2)
    assert scored(EntropyScorer(), steady, shaky) == [-0.5, pytest.approx(-2.7 / 8)]
    assert scored(DeepConfScorer.at_mark(8), steady, shaky) == [4.0, 1.0]
    assert scored(DeepConfScorer(8), shaky) == [7.0]


@pytest.mark.parametrize("scorer", [EntropyScorer(), DeepConfScorer(2)])
def test_an_engine_that_tells_nothing_of_candidates(scorer: Scorer) -> None:
    with pytest.raises(ScorerError, match="use confidence"):
        scored(scorer, written(0, "abc"))


def test_similarity_keeps_those_that_differ() -> None:
    scores = scored(
        SimilarityScorer(),
        written(0, "count the distinct ones"),
        written(1, "count the distinct ones"),
        written(2, "sum over all divisors"),
    )
    assert scores[1] == -1.0
    assert min(scores[0], scores[2]) > -0.5
