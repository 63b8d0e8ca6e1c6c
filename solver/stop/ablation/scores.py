"""Scores of an adapter on saved rollouts, without an engine: the base model's prefix KV is kept.

The prefix KV is the same for every adapter, so it is computed once a mark, and a point costs its
[STOP] positions only. Equal prefixes of a problem are scored once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from solver.adapter.folder import LoadedAdapter
from solver.adapter.gate import StopGate
from solver.adapter.score import check_prefixes
from solver.clock import MonotonicClock
from solver.ports import Scorer
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.declaration import ComputedScorer
from solver.scorers.stop import STOP, CombinedScorer
from solver.scorers.unscored import NONE
from solver.stop.ablation.results import Values
from solver.stop.evaluation.compare import dropped
from solver.stop.evaluation.kept import outcome
from solver.stop.evaluation.scoring import Marked, score_at
from solver.stop.metrics import auroc
from solver.stop.rollouts.rollout import ProblemRollouts
from solver.stop.training.prefixes import PrefixStore
from solver.stop.training.shelf import MemoryShelf, Shelf
from solver.types import Trajectory

_BATCH = 32
_DECIMALS = 6


class Evaluation:
    """Evaluation rollouts on the base model; `shelves` gives where the KV of another mark is kept."""

    def __init__(
        self, model: Any, units: Sequence[ProblemRollouts], shelves: Callable[[], Shelf]
    ) -> None:
        self._model, self._units, self._shelves = model, units, shelves
        self._mark = 0
        self._places: dict[tuple[int, ...], int] = {}
        self._store = PrefixStore(model, [], [], MemoryShelf(0))

    def marked(
        self, mark: int, loaded: LoadedAdapter, families: Sequence[str] = ()
    ) -> list[Marked]:
        """The rollouts (of `families`, if any are named) at `mark`, scored by STOP and confidence.

        Raises `ModelError` for prefixes that are not this model's, `InputError` for a mark beyond
        what is stored.
        """
        self._go_to(mark)
        units = [u for u in self._units if not families or u.tags.get("family") in families]
        with StopGate.attach(self._model, loaded.adapter) as gate, torch.no_grad():
            check_prefixes(list(self._places), gate)
            stop = _StoredStop(gate, self._store, self._places)
            scorers: list[Scorer] = [ComputedScorer(CONFIDENCE), stop]
            if loaded.spec.combiner is not None:
                scorers.append(CombinedScorer(stop, loaded.spec.combiner))
            by_name = {scorer.name: scorer for scorer in scorers}
            return asyncio.run(score_at(units, mark, by_name, None, MonotonicClock()))

    def _go_to(self, mark: int) -> None:
        if mark == self._mark:
            return
        problems: dict[tuple[int, ...], str] = {}
        for unit in self._units:
            for rollout in unit.rollouts:
                if (prefix := unit.prefix(rollout, mark)) is not None:
                    problems.setdefault(tuple(prefix.token_ids), unit.problem_id)
        self._mark, self._places = mark, {prefix: place for place, prefix in enumerate(problems)}
        names = list(problems.values())
        self._store = PrefixStore(self._model, list(problems), names, self._shelves())
        self._store.fill()


class _StoredStop:
    """STOP's logits over stored prefix KV."""

    name = STOP.name

    def __init__(
        self, gate: StopGate, store: PrefixStore, places: dict[tuple[int, ...], int]
    ) -> None:
        self._gate, self._store, self._places = gate, store, places
        self._known: dict[tuple[int, ...], float] = {}

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One logit a trajectory; `deadline` is ignored."""
        prefixes = [tuple(trajectory.token_ids) for trajectory in trajectories]
        missing = [p for p in dict.fromkeys(prefixes) if p not in self._known]
        adapter = self._gate.adapter
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            rows = [self._places[prefix] for prefix in batch]
            states = self._store.stop_states(adapter.stop_token_ids, rows)
            self._known.update(zip(batch, adapter.head(states).tolist(), strict=True))
        return [self._known[prefix] for prefix in prefixes]


def values_of(
    marked: Sequence[Marked], keep: int, seed: int
) -> tuple[tuple[str, ...], dict[str, Values]]:
    """The problems in order, and every method's values on them; `none` keeps all rollouts."""
    problems: dict[str, list[Marked]] = {}
    for unit in marked:
        problems.setdefault(unit.problem_id, []).append(unit)
    methods = [NONE.name, *dict.fromkeys(name for unit in marked for name in unit.scores)]
    groups = list(problems.values())
    return tuple(problems), {method: _values(groups, method, keep, seed) for method in methods}


def _values(groups: Sequence[Sequence[Marked]], method: str, keep: int, seed: int) -> Values:
    averages, votes, within = [], [], []
    for blocks in groups:
        results = [outcome(b.ends, dropped(b, method, keep, seed), b.answer) for b in blocks]
        pairs = [pair for block in blocks if (pair := _auroc(block, method)) is not None]
        averages.append(_mean([result.average for result in results]))
        votes.append(_mean([float(result.vote_right) for result in results]))
        within.append(_mean(pairs) if pairs else None)
    return Values(average=tuple(averages), vote=tuple(votes), within=tuple(within))


def _auroc(unit: Marked, method: str) -> float | None:
    scores = np.asarray(unit.scores.get(method, []), np.float64)
    if not len(scores):
        return None
    return auroc(scores, np.asarray(unit.right, np.float64), np.ones(len(scores)))


def _mean(numbers: Sequence[float]) -> float:
    return round(float(np.mean(numbers)), _DECIMALS)
