"""The quality of scores: how well a scorer separates right from wrong prefixes, and its calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solver.replay.problem import NotRecorded, ReplayProblem
from solver.scorers import ScorerDeclaration, Selection, find_scorer, scorer_names
from solver.stop.calibration import Bin, brier, calibration, chances
from solver.stop.metrics import auroc


@dataclass(frozen=True, slots=True)
class ScoreQuality:
    """How well a scorer tells right from wrong at a mark.

    `within` is the mean over problems of the AUROC of their own prefixes, `overall` takes all pairs;
    `brier` and `bins` are for scores that are logits of "ends right". None without right and wrong.
    """

    scorer: str
    mark: int
    num_prefixes: int
    within: float | None
    overall: float | None
    brier: float | None
    bins: tuple[Bin, ...]


def score_qualities(problems: Sequence[ReplayProblem], mark: int) -> list[ScoreQuality]:
    """Every scorer that has scores at `mark`, over the problems whose answers are known."""
    graded = [problem for problem in problems if problem.known_answer is not None]
    found = []
    for scorer in map(find_scorer, scorer_names()):
        if scorer.selection is not Selection.BEST:
            continue
        try:
            found.append(_quality(graded, scorer, mark))
        except NotRecorded:
            continue  # it has no scores at this mark
    return found


def _quality(
    problems: Sequence[ReplayProblem], scorer: ScorerDeclaration, mark: int
) -> ScoreQuality:
    scores: list[float] = []
    right: list[bool] = []
    within = []
    for problem in problems:
        waiting = problem.waiting(problem.indices, mark)
        known = problem.scores(scorer.name, mark, waiting) or {}
        mine = [problem.paths[index].right for index in known]
        value = _auroc(list(known.values()), mine)
        if value is not None:
            within.append(value)
        scores += known.values()
        right += mine
    logits = scorer.gives_chances and scores
    return ScoreQuality(
        scorer=scorer.name,
        mark=mark,
        num_prefixes=len(scores),
        within=float(np.mean(within)) if within else None,
        overall=_auroc(scores, right),
        brier=brier(chances(scores).tolist(), right) if logits else None,
        bins=tuple(calibration(chances(scores).tolist(), right)) if logits else (),
    )


def _auroc(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    labels = np.asarray(right, np.float64)
    return auroc(np.asarray(scores, np.float64), labels, np.ones(len(labels)))
