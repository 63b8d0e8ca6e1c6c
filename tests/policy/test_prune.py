import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.policy.prune import (
    Selection,
    asks_scores,
    choose,
    choose_random,
    keep_all,
    prune,
)
from solver.types import PruneReason

indices = st.sets(st.integers(0, 99), max_size=30)


def test_keeps_the_highest_scores() -> None:
    decision = choose({3: 0.5, 0: -1.0, 7: 2.0}, 2, "confidence")
    assert (decision.kept, decision.dropped) == ((3, 7), (0,))
    assert decision.scores == {0: -1.0, 3: 0.5, 7: 2.0}
    assert (decision.method, decision.reason) == ("confidence", PruneReason.SCORED)
    assert decision.error is None


def test_of_equal_scores_the_lower_index_is_kept() -> None:
    assert choose({9: 1.0, 5: 1.0, 2: 1.0}, 2, "m").kept == (2, 5)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_must_be_finite(score: float) -> None:
    with pytest.raises(ValueError, match="trajectory 4"):
        choose({1: 0.0, 4: score}, 1, "m")


@pytest.mark.parametrize("keep", [0, -1])
def test_keep_must_be_positive(keep: int) -> None:
    with pytest.raises(ValueError, match="keep must be at least 1"):
        choose({1: 0.0}, keep, "m")
    with pytest.raises(ValueError, match="keep must be at least 1"):
        choose_random([1], keep, 0, "m")


@given(st.dictionaries(st.integers(0, 99), st.floats(-5, 5)), st.integers(1, 40))
def test_no_dropped_score_is_higher_than_a_kept_one(scores: dict[int, float], keep: int) -> None:
    decision = choose(scores, keep, "m")
    assert sorted(decision.kept + decision.dropped) == sorted(scores)
    assert len(decision.kept) == min(keep, len(scores))
    assert list(decision.kept) == sorted(decision.kept)
    assert list(decision.dropped) == sorted(decision.dropped)
    lowest = min((scores[i] for i in decision.kept), default=math.inf)
    assert all(scores[i] <= lowest for i in decision.dropped)


@given(indices, st.integers(1, 40), st.integers(0, 2**63 - 1))
def test_random_choice_is_a_function_of_its_seed(chosen: set[int], keep: int, seed: int) -> None:
    decision = choose_random(chosen, keep, seed, "random")
    assert decision == choose_random(sorted(chosen, reverse=True), keep, seed, "random")
    assert sorted(decision.kept + decision.dropped) == sorted(chosen)
    assert len(decision.kept) == min(keep, len(chosen))
    assert (decision.reason, decision.error) == (PruneReason.SCORED, None)


def test_random_choice_depends_on_the_seed() -> None:
    assert len({choose_random(range(24), 8, seed, "random").kept for seed in range(20)}) > 15


def test_a_failed_scorer_is_a_named_fallback() -> None:
    decision = choose_random(range(4), 2, 1, "confidence", "ScorerError: too late")
    assert decision.reason is PruneReason.FALLBACK_RANDOM
    assert decision.error == "ScorerError: too late"
    assert decision.scores == {}


def test_keep_all() -> None:
    decision = keep_all([3, 1], "confidence")
    assert (decision.kept, decision.dropped) == ((1, 3), ())
    assert decision.reason is PruneReason.SKIPPED


@pytest.mark.parametrize(
    ("num_waiting", "selection", "asked"),
    [(3, "best", True), (2, "best", False), (3, "all", False), (3, "random", False)],
)
def test_scores_are_asked_for_where_they_decide(
    num_waiting: int, selection: str, asked: bool
) -> None:
    assert asks_scores(range(num_waiting), 2, Selection(selection)) is asked


def test_the_decision_at_the_mark() -> None:
    scores, best = {0: 0.1, 1: 0.3, 2: 0.2}, Selection.BEST
    assert prune([0, 1, 2], 2, best, "stop", scores, seed=1) == choose(scores, 2, "stop")
    assert prune([0, 1, 2], 3, best, "stop", None, seed=1) == keep_all([0, 1, 2], "stop")
    assert prune([0, 1, 2], 2, Selection.ALL, "none", None, seed=1) == keep_all([0, 1, 2], "none")
    drawn = choose_random([0, 1, 2], 2, 1, "random")
    assert prune([0, 1, 2], 2, Selection.RANDOM, "random", None, seed=1) == drawn
    failed = prune([0, 1, 2], 2, best, "stop", None, seed=1, error="too late")
    assert (failed.reason, failed.kept) == (PruneReason.FALLBACK_RANDOM, drawn.kept)
