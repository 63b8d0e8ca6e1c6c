"""Several checks against one as dear, on rollouts whose every number can be worked out by hand."""

from __future__ import annotations

import re

import pytest

from solver.errors import ConfigError
from solver.stop.evaluation.evaluate import check_plans, compare
from solver.stop.evaluation.kept import End
from solver.stop.evaluation.report import markdown
from solver.stop.evaluation.scoring import Marked
from solver.stop.evaluation.stages import stages_rows
from solver.types import Check

FIRST, LAST = 10, 20


def at(mark: int, scores: list[float], answers: list[int], name: str = "p") -> Marked:
    """Answer 7 is right; every rollout samples 50 tokens."""
    ends = [End(i, answer, answer == 7, 50) for i, answer in enumerate(answers)]
    return Marked(name, "", 0, mark, 7, ends, list(range(len(answers))), {"stop": scores})


def both(
    first: list[float], last: list[float], answers: list[int], name: str = "p"
) -> dict[int, list[Marked]]:
    return {FIRST: [at(FIRST, first, answers, name)], LAST: [at(LAST, last, answers, name)]}


def test_who_falls_at_the_first_mark_cannot_come_back_at_the_second() -> None:
    """0 is the best at the second mark and the worst at the first."""
    units = both([0.0, 3.0, 2.0, 1.0], [9.0, 1.0, 2.0, 3.0], [7, 1, 7, 1])
    row, _ = stages_rows(units, [(Check(FIRST, 2), Check(LAST, 1))], "stop", 0)
    assert row.average.value == 1.0, "2 is kept, from 1 and 2"
    assert row.tokens == 10 + 20 + 50 + 10


def test_one_check_is_the_one_check() -> None:
    units = both([3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [7, 7, 1, 1])
    rows = stages_rows(units, [(Check(LAST, 2),)], "stop", 0)
    [same] = [row for row in rows if row.mark == LAST]
    assert same.keep == 2
    assert same.average_gain is not None and same.vote_gain is not None
    assert (same.average_gain.value, same.vote_gain.value) == (0, 0)


def test_the_one_check_costs_as_many_tokens() -> None:
    """Stages sample 10 + 20 + 20 + 50 = 100; one check at 10 samples 80 with keep 1 and 120 with 2."""
    units = both([3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1, 1, 7, 7])
    early, late = stages_rows(units, [(Check(FIRST, 3), Check(LAST, 1))], "stop", 0)
    assert (early.mark, early.tokens, early.keep) == (FIRST, 100, 1.5)
    assert early.average_gain is not None
    assert early.average_gain.value == 1.0, "2 is kept; one check keeps 0, or 0 and 1"
    assert (late.mark, late.keep) == (LAST, None), "no keep at 20 is as cheap: 110 is the least"
    assert late.average_gain is late.vote_gain is None


def test_gains_are_paired_by_problem_and_training() -> None:
    """The stages keep a right one of p always; one check does in the first training only."""
    units: dict[int, list[Marked]] = {FIRST: [], LAST: []}
    for draw, scores in enumerate(([3.0, 2.0, 0.0], [2.0, 3.0, 0.0])):
        for mark, found in both(scores, [3.0, 0.0, 0.0], [7, 1, 1]).items():
            found[0].draw = draw
            units[mark] += found
    row, _ = stages_rows(units, [(Check(FIRST, 2), Check(LAST, 1))], "stop", 0)
    assert row.average.value == 1.0
    assert row.keep == pytest.approx(1.25), "10 + 20 + 50 = 80 tokens; 70 and 110"
    assert row.average_gain is not None
    expected = [1 - (0.75 * 1 + 0.25 * 0.5), 1 - (0.75 * 0 + 0.25 * 0.5)]
    assert row.average_gain.value == pytest.approx(sum(expected) / 2)
    assert (row.average_gain.low, row.average_gain.high) == pytest.approx(tuple(expected))


def test_the_table() -> None:
    units = both([3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1, 1, 7, 7])
    settings = {(4, mark): marked for mark, marked in units.items()}
    found = compare(settings, (4, LAST, 1), [1], 0, [(Check(FIRST, 3), Check(LAST, 1))])
    text = markdown("T", "make it", [], found.rows, [], [], [], found.stages, found.main, [])
    text = re.sub(" +", " ", text)
    assert "| 10:3 + 20:1 | 100.0 [100.0, 100.0] | 100.0 [100.0, 100.0] | 100 | 10:1.5 |" in text
    assert "| 100 | 20:- | - | - |" in text
    assert "Mark:keep, by stop." in text


def test_plans_that_do_not_fit() -> None:
    check_plans([(Check(FIRST, 4), Check(LAST, 2))], 4, [LAST, FIRST])
    with pytest.raises(ConfigError, match="--stages keeps 5 of 4"):
        check_plans([(Check(FIRST, 5), Check(LAST, 2))], 4, [LAST, FIRST])
    with pytest.raises(ConfigError, match="has mark 10: add it to --marks 20"):
        check_plans([(Check(FIRST, 3), Check(LAST, 2))], 4, [LAST])
