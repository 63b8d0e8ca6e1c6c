"""How much of a run is played and written down: what its answers need, or everything.

Under full recording nobody ends at the check and no vote stops anybody, so that any policy can be
tried on the journal later. Scores that are functions of the tokens need no record; those that need a
model are asked for and recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from solver.config import SolverConfig
from solver.errors import named
from solver.journal.events import Scored
from solver.policy.prefix import prefix_at
from solver.ports import Scorer
from solver.solving.state import ProblemState
from solver.types import Trajectory

if TYPE_CHECKING:
    from solver.solving.services import Services


class Recording:
    """An ordinary run: only what the answers need is sampled and scored."""

    ends_dropped = True  # those that the check drops end there
    stops_early = True  # a decided vote ends those that are still under way

    async def score_mark(self, mark: int, state: ProblemState, services: Services) -> None:
        """Record further scores of what stands at `mark`, once the check has decided."""

    async def score_other_marks(self, state: ProblemState, services: Services) -> None:
        """Record further scores of every trajectory as it stood at other marks, once all have ended."""


class FullRecording(Recording):
    """Everything that a replay may ask for: all trajectories to their ends, all of `scorers`' scores.

    All that are launched stand at `first_mark`; as they stood at `marks`, they are scored afterwards.
    """

    ends_dropped = False  # they go on, without a vote
    stops_early = False

    def __init__(self, scorers: Sequence[Scorer], first_mark: int, marks: Iterable[int]) -> None:
        self._scorers = scorers
        self._first_mark, self._marks = first_mark, tuple(marks)

    async def score_mark(self, mark: int, state: ProblemState, services: Services) -> None:
        """Score what stands at the first mark by every scorer; the seconds are those of a check."""
        if mark == self._first_mark:
            await self._score(state.waiting(), mark, state, services)

    async def score_other_marks(self, state: ProblemState, services: Services) -> None:
        """Score every trajectory once more, as it stood at each of `marks`."""
        for mark in self._marks:
            prefixes = [p for t in state.trajectories if (p := prefix_at(t, mark)) is not None]
            await self._score(prefixes, mark, state, services)

    async def _score(
        self, prefixes: Sequence[Trajectory], mark: int, state: ProblemState, services: Services
    ) -> None:
        for scorer in self._scorers if prefixes else ():
            await _score_and_record(scorer, prefixes, mark, state, services)


def recording_of(config: SolverConfig, scorers: Sequence[Scorer]) -> Recording:
    """The recording that `config.record` names; `scorers` are asked under full recording only."""
    if config.record != "full":
        return Recording()
    first, *later = (check.mark for check in config.prune.checks)
    return FullRecording(scorers, first, dict.fromkeys([*later, *config.record_marks]))


async def _score_and_record(
    scorer: Scorer,
    prefixes: Sequence[Trajectory],
    mark: int,
    state: ProblemState,
    services: Services,
) -> None:
    started, error = services.elapsed(), None
    scores: dict[int, float] = {}
    try:
        async with asyncio.timeout_at(state.budget.soft_deadline):
            values = await scorer.score(prefixes, state.budget.soft_deadline)
        scores = {p.index: score for p, score in zip(prefixes, values, strict=True)}
    except Exception as failure:  # the boundary: what cannot be scored is missing in the record
        error = named(failure)
    services.record(
        Scored(
            t=services.elapsed(),
            problem_id=state.problem.id,
            scorer=scorer.name,
            mark=mark,
            scores=scores,
            error=error,
            started=started,
        )
    )
