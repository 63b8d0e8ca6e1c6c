"""The numbers behind the pictures, as pure functions of what was read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import NamedTuple

from solver.config import VoteConfig
from solver.journal.history import ProblemHistory, TrajectoryHistory
from solver.journal.summary import wilson_interval
from solver.policy.vote import vote
from solver.policy.weights import weigh

CAPS = 24
BINS = 10
_FEWEST = 5  # scores a bin, below that a share says nothing
COLUMNS = 240  # problems drawn one by one; more are drawn in groups

IsRight = Callable[[int], bool]


class Point(NamedTuple):
    """Mean sampled tokens a problem, and the share of right answers with its 95 % interval."""

    tokens: float
    share: float
    low: float
    high: float


class Bin(NamedTuple):
    """Scores that stand together: their range and mean, and how many of them ended right."""

    smallest: float
    mean: float
    largest: float
    share: float
    low: float
    high: float
    num: int


class Column(NamedTuple):
    """Problems in the order of their answers: seconds from, to, used and allotted (means of a group)."""

    began: float
    ended: float
    used: float
    allotted: float | None
    num: int


@dataclass(frozen=True, slots=True)
class Graded:
    """A solved problem whose answer is known, and how it was voted on.

    `fallback` is answered when nobody voted.
    """

    problem: ProblemHistory
    is_right: IsRight
    fallback: int
    rule: VoteConfig


def accuracy_curve(graded: Sequence[Graded], num_caps: int = CAPS) -> list[Point]:
    """The vote's accuracy if every trajectory were cut off at x sampled tokens, for several x.

    Tokens are those sampled until then, the pruned ones' included.
    """
    lengths = sorted({b.num_sampled_tokens for one in graded for b in one.problem.ballots})
    if not lengths:
        return []
    places = {round(k * (len(lengths) - 1) / max(1, num_caps - 1)) for k in range(num_caps)}
    caps = [lengths[place] for place in sorted(places)]
    right, tokens = [0] * len(caps), [0] * len(caps)
    for one in graded:
        verdicts = _verdicts(one)
        cast = [ballot.num_sampled_tokens for ballot in one.problem.ballots]
        sampled = [lane.num_tokens for lane in one.problem.trajectories.values()]
        for place, cap in enumerate(caps):
            right[place] += verdicts[bisect_right(cast, cap)]
            tokens[place] += sum(min(count, cap) for count in sampled)
    num = len(graded)
    return [
        Point(spent / num, hits / num, *wilson_interval(hits, num))
        for hits, spent in zip(right, tokens, strict=True)
    ]


def _verdicts(one: Graded) -> list[bool]:
    """Whether the vote of the first 0, 1, 2, ... ballots is right."""
    scores = {i: s for i, s in one.problem.last_scores.items() if isfinite(s)}
    ballots = weigh(one.problem.ballots, scores, one.rule)
    answers = [vote(ballots[:count]).answer for count in range(len(ballots) + 1)]
    return [one.is_right(one.fallback if answer is None else answer) for answer in answers]


def outcomes(graded: Iterable[Graded], scorer: str, mark: int) -> list[tuple[float, bool]]:
    """What `scorer` said at `mark` of every trajectory that ended by itself, and whether it ended right."""
    return [
        (score, lane.answer is not None and one.is_right(lane.answer))
        for one in graded
        for lane, score in _scored(one.problem, scorer, mark)
        if lane.ended_by_itself
    ]


def verified(graded: Iterable[Graded]) -> list[tuple[float, bool]]:
    """What the last check said of every answer that it scored, and whether it is right."""
    return [
        (lane.evidence.verified, lane.answer is not None and one.is_right(lane.answer))
        for one in graded
        for lane in one.problem.trajectories.values()
        if lane.evidence.verified is not None
    ]


def num_scored(graded: Iterable[Graded], scorer: str, mark: int) -> int:
    """How many trajectories have a score by `scorer` at `mark`."""
    return sum(len(_scored(one.problem, scorer, mark)) for one in graded)


def _scored(
    problem: ProblemHistory, scorer: str, mark: int
) -> list[tuple[TrajectoryHistory, float]]:
    return [
        (problem.trajectories[i], score)
        for i, score in problem.scores(scorer, mark).items()
        if i in problem.trajectories and isfinite(score)
    ]


def calibration(found: Sequence[tuple[float, bool]], num_bins: int = BINS) -> list[Bin]:
    """Bins of about equally many, by score; equal scores stay together."""
    ordered = sorted(found)
    num_bins = min(num_bins, len(ordered) // _FEWEST)
    bins, begin = [], 0
    for place in range(1, num_bins + 1):
        end = max(begin, round(place * len(ordered) / num_bins))
        while begin < end < len(ordered) and ordered[end][0] == ordered[end - 1][0]:
            end += 1
        if end > begin:
            bins.append(_bin(ordered[begin:end]))
        begin = end
    return bins


def _bin(members: Sequence[tuple[float, bool]]) -> Bin:
    scores = [score for score, _ in members]
    hits, count = sum(right for _, right in members), len(members)
    mean = sum(scores) / count
    interval = wilson_interval(hits, count)
    return Bin(scores[0], mean, scores[-1], hits / count, *interval, count)


def columns(problems: Iterable[ProblemHistory], num_columns: int = COLUMNS) -> list[Column]:
    """Solved problems in the order of their answers, neighbours grouped if there are many."""
    solved = sorted((p for p in problems if p.solved), key=_solved_at)
    size = -(-len(solved) // num_columns)
    return [_column(solved[i : i + size]) for i in range(0, len(solved), size or 1)]


def _solved_at(problem: ProblemHistory) -> float:
    return problem.solved.t if problem.solved else inf


def _column(group: Sequence[ProblemHistory]) -> Column:
    allotted = [p.allotted_s for p in group if p.allotted_s is not None]
    used = [p.solved.elapsed_s for p in group if p.solved]
    return Column(
        began=min(problem.started for problem in group),
        ended=_solved_at(group[-1]),
        used=sum(used) / len(group),
        allotted=sum(allotted) / len(allotted) if allotted else None,
        num=len(group),
    )
