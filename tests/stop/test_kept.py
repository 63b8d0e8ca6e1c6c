from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.stop.evaluation.kept import End, outcome


def end(index: int, answer: int | None, tokens: int) -> End:
    return End(index, answer, answer == 7, tokens)


ENDS = [end(0, 7, 100), end(1, 3, 50), end(2, 3, 60), end(3, 7, 20)]


def test_everybody() -> None:
    found = outcome(ENDS, {}, 7)
    assert (found.average, found.tokens) == (0.5, 230)
    assert found.vote_right is False, "a tie goes to the shorter ones: 55 against 60 in the mean"


def test_dropped_ones_cost_the_mark() -> None:
    found = outcome(ENDS, {1: 30, 2: 30}, 7)
    assert (found.average, found.vote_right, found.tokens) == (1.0, True, 180)


def test_nobody() -> None:
    with pytest.raises(ValueError, match="no rollout was kept"):
        outcome(ENDS, dict.fromkeys(range(4), 30), 7)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(40, 90)), min_size=1, max_size=9),
    st.data(),
)
def test_bounds(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    ends = [End(i, answer, answer == 0, tokens) for i, (answer, tokens) in enumerate(rows)]
    dropped = data.draw(st.sets(st.sampled_from(range(len(ends))), max_size=len(ends) - 1))
    found = outcome(ends, dict.fromkeys(dropped, 40), 0)
    assert 0 <= found.average <= 1
    assert 40 * len(ends) <= found.tokens <= sum(e.num_sampled_tokens for e in ends)
    if found.average > 0.5:
        assert found.vote_right
