from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.policy.similarity import diversity, jaccard, shingles

SETS = st.lists(st.frozensets(st.integers(0, 8).map(lambda n: (n,)), max_size=6), max_size=7)


def test_shingles() -> None:
    assert shingles([1, 2, 3, 4], 3) == {(1, 2, 3), (2, 3, 4)}
    assert shingles([1, 2], 3) == {(1, 2)}
    assert shingles([], 3) == frozenset()
    with pytest.raises(ValueError, match="at least 1"):
        shingles([1], 0)


def test_jaccard() -> None:
    assert jaccard({(1,), (2,)}, {(2,), (3,), (4,)}) == 0.25
    assert jaccard(set(), set()) == 1.0
    assert jaccard({(1,)}, set()) == 0.0


def test_of_two_alike_one_is_kept() -> None:
    a, b, c = frozenset({(1,), (2,)}), frozenset({(1,), (2,), (3,)}), frozenset({(9,)})
    assert diversity([a, b, c]) == [0.0, pytest.approx(-2 / 3), 0.0]
    same = [a, a, c, a]
    scores = diversity(same)
    assert scores == [0.0, -1.0, 0.0, -1.0]


def test_who_resembles_more_of_the_others_goes_first() -> None:
    middle, left, right = {(1,), (2,)}, {(1,), (3,)}, {(2,), (4,)}
    scores = diversity([frozenset(left), frozenset(middle), frozenset(right)])
    assert min(scores) == scores[1]


@given(SETS)
def test_keeping_the_best_is_what_dropping_leaves(sets: list[frozenset[tuple[int]]]) -> None:
    scores = diversity(sets)
    assert all(-1 <= score <= 0 for score in scores)
    order = sorted(range(len(sets)), key=lambda i: (-scores[i], i))
    for keep in range(1, len(sets)):
        kept = order[:keep]
        # every dropped one is at most as far from the kept ones as its score says
        for dropped in order[keep:]:
            nearest = max(jaccard(sets[dropped], sets[i]) for i in range(len(sets)) if i != dropped)
            assert nearest >= -scores[dropped]
        assert len(kept) == keep
    assert scores == diversity(list(sets))
