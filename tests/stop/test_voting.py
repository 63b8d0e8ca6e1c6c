"""Ways of voting on rollouts whose every number can be worked out by hand."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import partial

import pytest

from solver.stop.evaluation.compare import dropped
from solver.stop.evaluation.report import csv_of_votes, markdown
from solver.stop.evaluation.scoring import Marked, with_verified
from solver.stop.evaluation.voting import VoteRow, vote_rows
from solver.types import Evidence
from tests.stop.test_compare import MARK, scored, unit


def believed(marked: Marked, logits: list[float | None]) -> Marked:
    return with_verified(marked, {i: z for i, z in enumerate(logits) if z is not None})


def told(marked: Marked, confidences: list[float], entropies: list[float]) -> Marked:
    ends = [
        replace(end, evidence=Evidence(confidence, entropy))
        for end, confidence, entropy in zip(marked.ends, confidences, entropies, strict=True)
    ]
    return replace(marked, ends=ends)


def right(rows: list[VoteRow], pruned_by: str | None = None) -> dict[str, float]:
    return {row.way: row.right.value for row in rows if row.pruned_by == pruned_by}


def test_every_way_on_the_same_rollouts() -> None:
    wrong = [7, 1, 1]  # 7 is right, and outvoted
    marked = [
        scored(
            believed(told(unit("p", wrong), [20, 5, 5], [1, 1, 1]), [3, -3, -3]), "stop", [-9, 0, 0]
        ),
        scored(
            believed(told(unit("q", wrong), [9, 9, 9], [0.1, 1, 1]), [0, 0, 1]), "stop", [9, 0, 0]
        ),
    ]
    rows = vote_rows(marked, {}, 0)
    assert right(rows) == {
        "majority": 0.0,
        "weighted by stop": 0.0,
        "confidence": 0.5,
        "entropy": 0.5,
        "verified": 0.5,
        "best by stop": 0.5,
        "best by verified": 0.5,
        "oracle": 1.0,
    }
    by_way = {row.way: row for row in rows}
    assert by_way["majority"].gain is None
    gain = by_way["verified"].gain
    assert gain is not None and (gain.value, gain.low, gain.high) == (0.5, 0.0, 1.0)
    within = by_way["verified"].within
    assert within is not None and within.value == pytest.approx((1.0 + 0.25) / 2)
    assert by_way["verified"].brier == pytest.approx(
        (3 * 0.0474**2 + 0.25 + 0.25 + 0.7311**2) / 6, abs=1e-3
    )
    assert by_way["confidence"].brier is by_way["oracle"].within is None


def test_only_what_is_known_is_compared() -> None:
    assert [row.way for row in vote_rows([unit("p", [7, 1])], {}, 0)] == ["majority", "oracle"]


def test_those_that_are_kept_vote_as_well() -> None:
    marked = [scored(believed(unit("p", [1, 1, 7, 1]), [-3, -3, 3, 0]), "stop", [2, 0, 3, 1])]
    rows = vote_rows(marked, {"stop": partial(dropped, method="stop", keep=2, seed=0)}, 0)
    kept = [row for row in rows if row.pruned_by == "stop"]
    assert {row.num_voters for row in kept} == {2.0}
    assert right(rows)["majority"] == 0.0
    assert right(rows, "stop")["verified"] == 1.0
    assert right(rows, "stop")["oracle"] == 1.0


def test_a_rollout_without_a_score_weighs_half_and_one_without_an_answer_nothing() -> None:
    quiet = unit("p", [7, 1, 1])
    ends = [*quiet.ends[:2], replace(quiet.ends[2], answer=None)]
    marked = [believed(replace(quiet, ends=ends), [0.1, None, 9])]
    assert right(vote_rows(marked, {}, 0))["verified"] == 1.0  # 0.525 against 0.5
    assert right(vote_rows(marked, {}, 0))["best by verified"] == 1.0


def test_trainings_are_draws() -> None:
    marked = [
        replace(believed(unit("p", [7, 1, 1]), logits), draw=draw)
        for draw, logits in enumerate(([5, -5, -5], [-5, 5, 5]))
    ]
    [verified] = [row for row in vote_rows(marked, {}, 0) if row.way == "verified"]
    assert (verified.right.value, verified.right.low, verified.right.high) == (0.5, 0.0, 1.0)


def test_trainings_that_leave_other_problems_with_both_ends() -> None:
    """What one training drops may be all that was wrong: its AUROC is of the problems that all can judge."""
    first = [
        scored(unit("p", [7, 7, 1]), "stop", [2, 1, 0]),  # keeps right ends only
        scored(unit("q", [7, 1, 1]), "stop", [2, 1, 0]),
    ]
    second = [replace(marked, draw=1) for marked in first]
    second[0] = scored(
        replace(unit("p", [7, 7, 1]), draw=1), "stop", [0, 1, 2]
    )  # keeps a wrong one
    pruner = partial(dropped, method="stop", keep=2, seed=0)
    rows = vote_rows([*first, *second], {"stop": pruner}, 0)
    [within] = [row.within for row in rows if row.pruned_by and row.way == "weighted by stop"]
    assert within is not None and within.value == 1.0, "q alone; p would make it less"


def test_the_tables() -> None:
    marked = [scored(believed(unit("p", [1, 1, 7]), [-3, -3, 3]), "stop", [2, 0, 3])]
    rows = vote_rows(marked, {"stop": partial(dropped, method="stop", keep=2, seed=0)}, 0)
    text = markdown("T", "make it", [], [], [], rows, [], [], (3, MARK, 2), [])
    assert "## Votes of finished rollouts" in text
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    [found] = [line for line in cells if line[:2] == ["2, kept by stop", "verified"]]
    assert found[2] == "100.0 [100.0, 100.0]"
    [first, *others] = list(csv.DictReader(io.StringIO(csv_of_votes(rows))))
    assert (first["pruned_by"], first["way"], first["right"], first["gain"]) == (
        "",
        "majority",
        "0.0",
        "",
    )
    assert len(others) == len(rows) - 1
