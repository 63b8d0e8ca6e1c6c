"""The comparison on rollouts whose every number can be worked out by hand."""

from __future__ import annotations

import csv
import io
import re

import pytest

from solver.stop.evaluation.compare import ALL, differences, dropped, kinds_of, methods_of, row
from solver.stop.evaluation.kept import End
from solver.stop.evaluation.majority import majority_rows
from solver.stop.evaluation.report import csv_of, markdown
from solver.stop.evaluation.scoring import Marked

MARK = 10


def unit(
    name: str, answers: list[int], block: int = 0, kind: str = "tie", early: int = 0
) -> Marked:
    """Answer 7 is right; rollout i samples 40 + i tokens; the last `early` ended before the mark."""
    count = len(answers)
    first = block * count
    lengths = [40 + i for i in range(count - early)] + [5] * early
    ends = [End(first + i, answer, answer == 7, lengths[i]) for i, answer in enumerate(answers)]
    waiting = [end.index for end in ends[: count - early]]
    return Marked(name, kind, block, MARK, 7, ends, waiting)


def scored(marked: Marked, method: str, scores: list[float], seconds: float = 0.5) -> Marked:
    marked.scores[method] = scores
    marked.seconds[method] = seconds
    return marked


def test_one_problem() -> None:
    marked = [scored(unit("p", [7, 1, 1, 7]), "stop", [2.0, -1.0, 1.0, 3.0])]
    none, stop, oracle = (row(marked, m, 2, ALL, 0) for m in ("none", "stop", "oracle"))
    assert (none.average.value, none.vote.value, none.tokens) == (0.5, 0.0, 166)
    assert none.saving.value == 0
    assert (stop.average.value, stop.vote.value) == (1.0, 1.0)
    assert stop.tokens == 40 + 43 + 2 * MARK
    assert stop.saving.value == pytest.approx(1 - 103 / 166)
    assert stop.within is not None
    assert (stop.within.value, stop.overall, stop.seconds) == (1.0, 1.0, 0.5)
    assert stop.brier == pytest.approx(
        (0.1192**2 + 0.2689**2 + 0.7311**2 + 0.0474**2) / 4, abs=1e-3
    )
    assert oracle.average.value == 1.0
    assert (none.within, none.brier, none.seconds) == (None, None, None)


def test_scores_that_are_no_chances_have_no_brier_score() -> None:
    marked = [scored(unit("p", [7, 1, 1, 7]), "confidence", [-0.1, -0.2, -0.3, -0.4])]
    found = row(marked, "confidence", 2, ALL, 0)
    assert found.brier is None
    assert found.within is not None
    assert found.within.value == 0.5


def test_who_ended_early_votes_and_takes_no_place() -> None:
    marked = scored(unit("p", [1, 1, 7], early=1), "stop", [0.0, 1.0])
    assert dropped(marked, "stop", 1, 0) == {0: MARK}
    found = row([marked], "stop", 1, ALL, 0)
    assert (found.average.value, found.tokens) == (0.5, 41 + 5 + MARK)
    assert dropped(marked, "stop", 2, 0) == {}


def test_blocks_are_means_of_a_problem() -> None:
    marked = [
        scored(unit("p", [7, 1]), "stop", [1, 0]),
        scored(unit("p", [7, 1], block=1), "stop", [0, 1]),
        scored(unit("q", [7, 7]), "stop", [0, 1]),
    ]
    found = row(marked, "stop", 1, ALL, 0)
    assert found.num_problems == 2
    assert found.average.value == pytest.approx(0.75)
    assert found.within is not None
    assert found.within.value == 0.5, "only p has a right and a wrong one: 1 and 0 in its blocks"


def test_random_is_seeded_by_problem_and_block() -> None:
    units = [unit(name, [7, 1] * 6, block) for name in "pqrs" for block in (0, 1)]
    kept = [dropped(each, "random", 3, 0) for each in units]
    assert kept == [dropped(each, "random", 3, 0) for each in units]
    relative = {frozenset(i % 12 for i in indices) for indices in kept}
    assert len(relative) > 4
    assert all(len(indices) == 9 for indices in kept)


def test_kinds_and_differences() -> None:
    marked = [
        scored(scored(unit("p", [7, 1], kind="a"), "confidence", [0, 1]), "stop", [1, 0]),
        scored(scored(unit("q", [7, 1], kind="b"), "confidence", [1, 0]), "stop", [1, 0]),
    ]
    assert methods_of(marked) == ["none", "random", "confidence", "stop", "oracle"]
    assert kinds_of(marked) == [ALL, "a", "b"]
    assert kinds_of(marked[:1]) == [ALL]
    assert row(marked, "confidence", 1, "a", 0).average.value == 0
    found = {
        (each.kind, each.theirs, each.what): each.interval.value
        for kind in kinds_of(marked)
        for each in differences(marked, "stop", 1, kind, 0)
    }
    assert found[ALL, "confidence", "average"] == 0.5
    assert found["a", "confidence", "vote"] == 1.0
    assert found["b", "oracle", "average"] == 0.0
    assert (ALL, "stop", "average") not in found


def test_trainings_are_drawn_with_the_problems() -> None:
    """Two trainings on two problems: one is always right, the other never."""
    marked = []
    for draw, scores in enumerate(([1.0, 0.0], [0.0, 1.0])):
        for name in "pq":
            one = scored(scored(unit(name, [7, 1]), "confidence", [1, 0]), "stop", scores)
            one.draw = draw
            marked.append(one)
    marked.reverse()  # the order of the file does not matter
    stop, confidence = (row(marked, method, 1, ALL, 0) for method in ("stop", "confidence"))
    assert (stop.average.value, stop.average.low, stop.average.high) == (0.5, 0.0, 1.0)
    assert stop.within is not None and (stop.within.low, stop.within.high) == (0.0, 1.0)
    assert (confidence.average.low, confidence.average.high, confidence.num_problems) == (1, 1, 2)
    [minus] = [
        each.interval
        for each in differences(marked, "stop", 1, ALL, 0)
        if (each.theirs, each.what) == ("confidence", "average")
    ]
    assert (minus.value, minus.low, minus.high) == (-0.5, -1.0, 0.0)


def test_the_report() -> None:
    marked = [
        scored(
            scored(unit("p", [7, 1, 1], kind="a"), "similarity", [0, -1, -1]), "stop", [1, 0, 0]
        ),
        scored(scored(unit("q", [7, 1, 1], kind="b"), "similarity", [-1, 0, 0]), "stop", [1, 0, 0]),
    ]
    rows = [row(marked, m, keep, ALL, 0) for keep in (1, 2) for m in methods_of(marked)]
    rows += [row(marked, m, 1, kind, 0) for kind in ("a", "b") for m in methods_of(marked)]
    found = differences(marked, "stop", 1, ALL, 0)
    majority = majority_rows(marked, 0)
    pictures = ["roc.png"]
    padded = markdown(
        "T", "make it", ["Fact."], rows, found, [], majority, [], (3, MARK, 1), pictures
    )
    text = re.sub(" +", " ", padded)
    assert padded.startswith("# T\n\n    make it\n\nFact.\n")
    assert "| stop | 100.0 [100.0, 100.0] | 100.0" in text
    assert "| stop - none | **+66.7 [+66.7, +66.7]** | **+100.0" in text
    assert "## Kind: a" in text
    assert "| 3 | 10 | 2 | 33.3 / 0.0 |" in text
    assert "| similarity | - | 0 | 0.500 [0.000, 1.000] | 2 |" in text
    assert "| stop | - | 0 | 1.000 [1.000, 1.000] | 2 |" in text
    assert text.rstrip().endswith("![roc.png](roc.png)")
    table = list(csv.DictReader(io.StringIO(csv_of(rows))))
    assert len(table) == len(rows)
    assert {name for line in table for name in line if name} >= {"average_low", "within_auroc"}
    assert table[0]["brier"] == ""
