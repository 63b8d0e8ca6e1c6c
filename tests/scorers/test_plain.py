"""The scorers that need nothing but trajectories."""

from __future__ import annotations

import pytest

from sandbox.result import ExecutionResult, ExecutionStatus
from solver.errors import ScorerError
from solver.scorers import ScorerDeclaration
from solver.scorers.calls import FAILED_CALLS
from solver.scorers.confidence import CONFIDENCE, DEEPCONF, ENTROPY
from solver.scorers.declaration import ComputedScorer
from solver.scorers.similarity import SIMILARITY
from solver.types import Turn
from tests.scorers.conftest import written


def test_confidence() -> None:
    sure = written(0, "abc", logprobs=[-0.1, -0.1, -0.1])
    unsure = written(1, "abc", logprobs=[-0.1, -0.1, -2.0])
    one, other = CONFIDENCE.scores([sure, unsure], 3)
    assert one > other


def test_entropy_and_deepconf() -> None:
    steady = written(0, "abcdefgh", entropies=[0.5] * 8, confidences=[4.0] * 8)
    shaky = written(1, "abcdefgh", entropies=[0.1] * 7 + [2.0], confidences=[9.0] * 6 + [1.0] * 2)
    assert ENTROPY.scores([steady, shaky], 8) == [-0.5, pytest.approx(-2.7 / 8)]
    assert DEEPCONF.scores([steady, shaky], 8) == [4.0, 1.0]
    assert DEEPCONF.scores([shaky], 32) == [7.0]


@pytest.mark.parametrize("declaration", [ENTROPY, DEEPCONF])
def test_an_engine_that_tells_nothing_of_candidates(declaration: ScorerDeclaration) -> None:
    with pytest.raises(ScorerError, match="use confidence"):
        declaration.scores([written(0, "abc")], 3)


def test_similarity_keeps_those_that_differ() -> None:
    texts = ["count the distinct ones", "count the distinct ones", "sum over all divisors"]
    scores = SIMILARITY.scores([written(index, text) for index, text in enumerate(texts)], 24)
    assert scores[1] == -1.0
    assert min(scores[0], scores[2]) > -0.5


async def test_a_run_asks_the_same_function() -> None:
    prefixes = [written(0, "abc"), written(1, "ab")]
    scorer = ComputedScorer(CONFIDENCE)
    assert scorer.name == "confidence"
    assert await scorer.score(prefixes, 0.0) == CONFIDENCE.scores(prefixes, 3)


def test_a_score_for_each_prefix() -> None:
    one = ScorerDeclaration("one", compute=lambda prefixes, mark: [1.0])
    with pytest.raises(ScorerError, match="one gave 1 scores to 2 prefixes"):
        one.scores([written(0, "a"), written(1, "b")], 1)


def test_there_is_one_way_to_the_scores() -> None:
    with pytest.raises(ValueError, match="neither needs either compute or open"):
        ScorerDeclaration("neither")


def test_prefixes_whose_calls_failed_come_last() -> None:
    ends = [(), ("ok", "ok"), ("ok", "error"), ("timeout", "died")]
    prefixes = []
    for index, statuses in enumerate(ends):
        prefix = written(index, "abc")
        prefix.turns[:0] = [
            Turn([7], [-0.1], execution=ExecutionResult(status=ExecutionStatus(status)))
            for status in statuses
        ]
        prefixes.append(prefix)
    assert FAILED_CALLS.scores(prefixes, 3) == [0, 0, -1, -2]
