"""The numbers behind the pictures."""

from __future__ import annotations

import pytest

from solver.config import VoteConfig
from solver.journal.events import Checked, Scored, Solved
from solver.journal.history import ProblemHistory, TrajectoryHistory
from solver.report.charts import (
    Graded,
    accuracy_curve,
    calibration,
    columns,
    num_scored,
    outcomes,
)
from solver.types import Problem, PruneReason, StopReason

MARK = 10


def lane(index: int, tokens: int, answer: int | None, reason: StopReason) -> TrajectoryHistory:
    return TrajectoryHistory(index, 1, 0.0, num_tokens=tokens, stop_reason=reason, answer=answer)


def problem(*lanes: TrajectoryHistory, scores: dict[int, float] | None = None) -> ProblemHistory:
    record = ProblemHistory(Problem("p", ""), trajectories={one.index: one for one in lanes})
    checked = Checked(
        problem_id="p",
        kept=[],
        dropped=[one.index for one in lanes if one.stop_reason is StopReason.PRUNED],
        scores=scores or {},
        method="stop",
        reason=PruneReason.SCORED,
        started=0.0,
    )
    record.checks.append(checked)
    return record


def graded(record: ProblemHistory, right: int, rule: VoteConfig | None = None) -> Graded:
    return Graded(record, lambda answer: answer == right, 0, rule or VoteConfig())


def test_the_curve_is_the_vote_of_what_was_said_by_then() -> None:
    record = problem(
        lane(0, 20, 5, StopReason.ANSWERED),
        lane(1, 30, 4, StopReason.ANSWERED),
        lane(2, 40, 4, StopReason.ANSWERED),
        lane(3, 10, None, StopReason.PRUNED),
        lane(4, 35, None, StopReason.CONSENSUS),
    )
    points = accuracy_curve([graded(record, 4)])
    # The tie at 30 goes to the shorter one, which is wrong.
    assert [(p.tokens, p.share) for p in points] == [(90, 0.0), (120, 0.0), (135, 1.0)]
    assert points[0].low == 0.0 < points[0].high


def test_the_curve_follows_the_rule_of_the_run() -> None:
    record = problem(
        lane(0, 20, 4, StopReason.ANSWERED),
        lane(1, 30, 5, StopReason.ANSWERED),
        lane(2, 40, 5, StopReason.ANSWERED),
        scores={0: 3.0, 1: -2.0, 2: float("nan"), 9: 50.0},
    )
    shares = {
        rule: [p.share for p in accuracy_curve([graded(record, 4, VoteConfig(rule=rule))])]
        for rule in ("majority", "weighted")
    }
    assert shares == {"majority": [1.0, 1.0, 0.0], "weighted": [1.0, 1.0, 1.0]}


def test_without_a_vote_the_fallback_counts() -> None:
    silent, loud = (
        problem(lane(0, 50, None, StopReason.DEADLINE)),
        problem(lane(0, 9, 3, StopReason.ANSWERED)),
    )
    points = accuracy_curve([graded(silent, 0), graded(loud, 3)])
    assert [p.share for p in points] == [1.0, 1.0]
    assert accuracy_curve([graded(problem(), 0)]) == []


def test_only_own_endings_say_what_a_score_was_worth() -> None:
    record = problem(
        lane(0, 9, 4, StopReason.ANSWERED),
        lane(1, 9, 5, StopReason.ANSWERED),
        lane(2, 9, None, StopReason.MAX_TOKENS),
        lane(3, 9, None, StopReason.CONSENSUS),
        lane(4, 9, None, StopReason.PRUNED),
        scores={0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 4: 5.0, 9: 6.0},
    )
    assert outcomes([graded(record, 4)], "stop", MARK) == [(1.0, True), (2.0, False), (3.0, False)]
    assert num_scored([graded(record, 4)], "stop", MARK) == 5


def test_every_scorer_speaks_for_itself() -> None:
    record = problem(lane(0, 9, 4, StopReason.ANSWERED), scores={0: 1.0})
    said = {"reward": {0: -2.0}, "stop": {0: 9.0}}  # the check's own word goes first
    record.scored = [
        Scored(problem_id="p", scorer=name, mark=MARK, scores=scores, started=0.0)
        for name, scores in said.items()
    ]
    assert outcomes([graded(record, 4)], "stop", MARK) == [(1.0, True)]
    assert outcomes([graded(record, 4)], "reward", MARK) == [(-2.0, True)]
    assert outcomes([graded(record, 4)], "confidence", MARK) == []


def test_bins_hold_about_equally_many_and_equal_scores_stay_together() -> None:
    found = [(float(k), k >= 50) for k in range(100)]
    bins = calibration(found)
    assert [one.num for one in bins] == [10] * 10
    assert [one.share for one in bins] == [0.0] * 5 + [1.0] * 5
    assert bins[0].low == 0.0 and bins[0].smallest == 0.0 and bins[0].largest == 9.0
    same = calibration([(1.0, True)] * 30 + [(2.0, False)] * 30)
    assert [(one.mean, one.share, one.num) for one in same] == [(1.0, 1.0, 30), (2.0, 0.0, 30)]
    assert calibration([(1.0, True)] * 4) == []


@pytest.mark.parametrize(("num", "drawn"), [(0, 0), (3, 3), (240, 240), (241, 121), (1000, 200)])
def test_many_problems_share_columns(num: int, drawn: int) -> None:
    records = [_solved(place) for place in range(num)]
    found = columns(reversed(records))
    assert len(found) == drawn
    assert sum(column.num for column in found) == num
    assert [column.ended for column in found] == sorted(column.ended for column in found)


def _solved(place: int) -> ProblemHistory:
    solved = Solved(
        t=float(place), problem_id=str(place), answer=1, votes={1: 1}, num_votes=1, margin=1, tied=False,
        decided_early=False, elapsed_s=2.0, sampled_tokens=1, reused_tokens=0, encoded_tokens=0,
        degraded=[],
    )  # fmt: skip
    return ProblemHistory(Problem(str(place), ""), solved=solved, allotted_s=3.0)
