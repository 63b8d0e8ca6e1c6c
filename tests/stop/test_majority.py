"""Where the majority is right and where it is wrong, on rollouts that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

from solver.stop.evaluation.majority import MajorityRow, majority_rows
from solver.stop.evaluation.scoring import Marked, with_verified
from tests.stop.test_compare import scored, unit

RIGHT, WRONG = [7, 7, 1], [7, 1, 1]


def values(row: MajorityRow) -> tuple[float | None, float | None]:
    sides = row.where_right, row.where_wrong
    right, wrong = (None if side is None else side.value for side in sides)
    return right, wrong


def test_a_score_may_order_well_where_the_vote_needs_it_least() -> None:
    marked = [
        scored(unit("a", RIGHT), "stop", [2.0, 1.0, 0.0]),
        scored(unit("b", WRONG), "stop", [0.0, 1.0, -1.0]),
        scored(unit("c", WRONG), "stop", [0.0, 1.0, 2.0]),
        scored(unit("d", [1, 1, 1]), "stop", [0.0, 1.0, 2.0]),  # nothing to order
    ]
    [row] = majority_rows(marked, 0)
    assert row.method == "stop"
    assert values(row) == (1.0, 0.25)
    assert (row.num_right, row.num_wrong) == (1, 2)
    assert row.where_wrong is not None
    assert (row.where_wrong.low, row.where_wrong.high) == (0.0, 0.5)


def test_the_majority_is_that_of_all_rollouts_and_not_of_those_that_wait() -> None:
    early = unit("a", [7, 1, 1, 1], early=2)
    assert early.waiting == [0, 1]
    [row] = majority_rows([scored(early, "stop", [1.0, 0.0])], 0)
    assert values(row) == (None, 1.0)


def test_blocks_count_as_one_problem_and_trainings_as_draws() -> None:
    first, second = unit("a", WRONG), unit("a", WRONG, block=1)
    one = [scored(first, "stop", [1.0, 0.0, 0.0]), scored(second, "stop", [0.0, 1.0, 1.0])]
    two = [replace(marked, draw=1, scores={"stop": [1.0, 0.0, 0.0]}) for marked in one]
    for marked in one:
        scored(marked, "confidence", [0.0, 1.0, 1.0])  # of the first draw alone
    stop, confidence = majority_rows([*one, *two], 0)
    assert values(stop) == (None, 0.75)
    assert values(confidence) == (None, 0.0)
    assert stop.num_wrong == confidence.num_wrong == 1


def test_the_last_check_orders_answers() -> None:
    def verified(marked: Marked, logits: dict[int, float]) -> Marked:
        return scored(with_verified(marked, logits), "stop", [0.0] * len(marked.waiting))

    early = verified(unit("a", [7, 7, 1, 7], early=1), {1: 2.0, 2: 1.0, 3: 0.0})
    stop, last = majority_rows([early], 0)
    assert last.method == "verified"
    assert values(last) == (0.5, None), (
        "one that ended before the mark counts, one not asked does not"
    )
    assert values(stop) == (0.5, None)
    assert majority_rows([unit("a", WRONG)], 0) == []
