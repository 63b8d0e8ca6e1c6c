"""What a problem's finished rollouts answer under each way of voting, on the same rollouts. Pure.

Ways are the vote rules of a run, the answer of the one rollout that a rule trusts most, and the oracle, which
answers right if any rollout does (pass@k). Intervals are those of the other tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solver.config import VoteConfig, VoteRule
from solver.policy.statistics import Interval, drawn_interval
from solver.policy.vote import vote
from solver.policy.weights import BY_EVIDENCE, evidence_for, weigh
from solver.scorers import gives_chances
from solver.stop.calibration import brier
from solver.stop.evaluation.compare import (
    auroc_of,
    by_training,
    means_by_problem,
    minus,
)
from solver.stop.evaluation.kept import End
from solver.stop.evaluation.scoring import Marked
from solver.types import Ballot

Dropped = Callable[[Marked], Collection[int]]  # the indices of a unit that a pruner drops

MAJORITY, ORACLE = "majority", "oracle"
_CHANCES: frozenset[VoteRule] = frozenset({"weighted", "verified"})  # whose weights are chances


@dataclass(frozen=True, slots=True)
class VoteRow:
    """One way of voting.

    `voters` are all that were launched, or those that `pruned_by` keeps. `right` is the share of problems
    that are answered right, `gain` that minus the majority of the same voters, problem by problem (None for
    the majority itself). `within` is the mean over problems of the AUROC of the weights among a problem's
    answers, `brier` that of weights that are chances. None where a way has no such number.
    """

    pruned_by: str | None
    num_voters: float
    way: str
    right: Interval
    gain: Interval | None
    within: Interval | None
    brier: float | None


@dataclass(frozen=True, slots=True)
class _Way:
    """How ballots become an answer: `rule` weighs them, `scorer` is the one of `weighted`."""

    name: str
    rule: VoteRule = "majority"
    scorer: str | None = None
    best: bool = False  # the answer of the heaviest ballot alone

    def ballots(self, unit: Marked, voters: Sequence[End]) -> list[Ballot]:
        """The ballots of these rollouts with their weights."""
        known = unit.scores.get(self.scorer, []) if self.scorer is not None else []
        scores = dict(zip(unit.waiting, known, strict=True)) if known else {}
        cast = [
            Ballot(end.index, end.answer, end.num_sampled_tokens, evidence=end.evidence)
            for end in voters
        ]
        return weigh(cast, scores, VoteConfig(rule=self.rule))

    def is_right(self, unit: Marked, voters: Sequence[End]) -> bool:
        """Whether the answer is the problem's."""
        if self.name == ORACLE:
            return any(end.right for end in voters)
        ballots = self.ballots(unit, voters)
        if self.best:
            ballots = sorted(filter(_answers, ballots), key=_trusted)[:1]
        return vote(ballots).answer == unit.answer


def vote_rows(marked: Sequence[Marked], pruners: Mapping[str, Dropped], seed: int) -> list[VoteRow]:
    """Every way of voting that these units know of, among all rollouts and those that each pruner keeps."""
    draws = by_training(marked)
    ways = _ways(draws[0])
    rows = []
    for pruner, dropped in ((None, _nobody), *pruners.items()):
        voters = [[_voters(unit, dropped) for unit in units] for units in draws]
        majority = _right(ways[0], draws, voters)
        for way in ways:
            right = _right(way, draws, voters)
            rows.append(
                VoteRow(
                    pruned_by=pruner,
                    num_voters=float(np.mean([len(some) for units in voters for some in units])),
                    way=way.name,
                    right=drawn_interval(right, seed),
                    gain=None if way is ways[0] else drawn_interval(minus(right, majority), seed),
                    within=_within(way, draws, voters, seed),
                    brier=_brier(way, draws, voters),
                )
            )
    return rows


def _ways(units: Sequence[Marked]) -> list[_Way]:
    """The majority first, then what there are scores or evidence for, the oracle last."""
    scorers = dict.fromkeys(name for unit in units for name in unit.scores if gives_chances(name))
    ways = [_Way(f"weighted by {name}", "weighted", name) for name in scorers]
    rules: list[VoteRule] = ["confidence", "entropy", "verified"]
    assert set(rules) == BY_EVIDENCE, "every rule by evidence is compared"
    ends = [end for unit in units for end in unit.ends]
    known = [r for r in rules if any(evidence_for(r, end.evidence) is not None for end in ends)]
    ways += [_Way(rule, rule) for rule in known]
    best = [
        _Way(f"best by {way.scorer or way.name}", way.rule, way.scorer, best=True)
        for way in ways
        if way.rule in _CHANCES
    ]
    return [_Way(MAJORITY), *ways, *best, _Way(ORACLE)]


def _nobody(_: Marked) -> Collection[int]:
    return ()


def _voters(unit: Marked, dropped: Dropped) -> list[End]:
    out = dropped(unit)
    return [end for end in unit.ends if end.index not in out]


def _right(
    way: _Way, draws: Sequence[Sequence[Marked]], voters: Sequence[Sequence[Sequence[End]]]
) -> list[list[float]]:
    """Of each training, for each problem, the share of its blocks that are answered right."""

    def value(unit: Marked, some: Sequence[End]) -> float:
        return float(way.is_right(unit, some))

    return _by_training(draws, voters, value)


def _within(
    way: _Way,
    draws: Sequence[Sequence[Marked]],
    voters: Sequence[Sequence[Sequence[End]]],
    seed: int,
) -> Interval | None:
    if way.rule == "majority" or way.best:
        return None

    def value(unit: Marked, some: Sequence[End]) -> float | None:
        ballots = list(filter(_answers, way.ballots(unit, some)))
        return auroc_of([b.weight for b in ballots], [b.answer == unit.answer for b in ballots])

    found = _by_training(draws, voters, value)
    return drawn_interval(found, seed) if all(found) else None


def _brier(
    way: _Way, draws: Sequence[Sequence[Marked]], voters: Sequence[Sequence[Sequence[End]]]
) -> float | None:
    if way.rule not in _CHANCES or way.best:
        return None
    pairs = [
        (ballot.weight, ballot.answer == unit.answer)
        for units, chosen in zip(draws, voters, strict=True)
        for unit, some in zip(units, chosen, strict=True)
        for ballot in filter(_answers, way.ballots(unit, some))
    ]
    return brier([weight for weight, _ in pairs], [right for _, right in pairs]) if pairs else None


def _by_training(
    draws: Sequence[Sequence[Marked]],
    voters: Sequence[Sequence[Sequence[End]]],
    value: Callable[[Marked, Sequence[End]], float | None],
) -> list[list[float]]:
    """The values of each training `[trainings][problems]`, for the problems that all of them have one of.

    Trainings drop other rollouts, and a problem may be left with right ends only by one of them.
    """
    found = [
        means_by_problem(
            (unit.problem_id, value(unit, ends)) for unit, ends in zip(units, some, strict=True)
        )
        for units, some in zip(draws, voters, strict=True)
    ]
    common = [name for name in found[0] if all(name in values for values in found)]
    return [[values[name] for name in common] for values in found]


def _answers(ballot: Ballot) -> bool:
    return ballot.answer is not None


def _trusted(ballot: Ballot) -> tuple[float, int, int]:
    """The heaviest first, then the shorter."""
    return -ballot.weight, ballot.num_sampled_tokens, ballot.index
