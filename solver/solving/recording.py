"""Full recording: what every learned scorer says of every prefix, kept for replays.

With `record = "full"` nobody is dropped and no vote stops anybody, so that any policy can be tried on
the journal later. Scores that are functions of the tokens need no record; those that need a model do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from solver.errors import named
from solver.journal.events import Scored
from solver.policy.prefix import prefix_at
from solver.ports import Scorer
from solver.solving.services import Services
from solver.solving.state import ProblemState
from solver.types import Trajectory


async def record_mark(state: ProblemState, services: Services) -> None:
    """Score what stands at the mark by every learned scorer; the seconds are those of a check."""
    await _record(state.waiting(), services.config.prune.mark, state, services)


async def record_other_marks(state: ProblemState, services: Services) -> None:
    """Score every trajectory once more, as it stood at each of `record_marks`."""
    for mark in services.config.record_marks:
        prefixes = [p for t in state.trajectories if (p := prefix_at(t, mark)) is not None]
        await _record(prefixes, mark, state, services)


async def _record(
    prefixes: Sequence[Trajectory], mark: int, state: ProblemState, services: Services
) -> None:
    for scorer in services.recorded_scorers if prefixes else ():
        await _record_one(scorer, prefixes, mark, state, services)


async def _record_one(
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
