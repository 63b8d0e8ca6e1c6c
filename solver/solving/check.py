"""Check: score the prefixes that stand at the mark, keep the best K, drop the rest.

Trajectories that ended before the mark vote as they are and take no place among the K. A scorer
that fails is replaced by a seeded random choice, which the decision and the result both name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from solver.errors import named
from solver.journal.events import Checked
from solver.policy.prune import asks_scores, prune
from solver.policy.seeds import prune_seed
from solver.solving.recording import record_mark
from solver.solving.resources import Workbench
from solver.solving.services import Services
from solver.solving.state import ProblemState
from solver.solving.trajectory import end
from solver.types import PruneDecision, PruneReason, StopReason, Trajectory


async def check(state: ProblemState, services: Services, bench: Workbench) -> None:
    """Decide who goes on, end the others at once, so that their kernels and cache rows are free.

    Under full recording nobody is ended: the dropped go on, without a vote.
    """
    started = services.elapsed()
    waiting = state.waiting()
    decision = await _decide(waiting, state, services)
    state.decision = decision
    if decision.reason is PruneReason.FALLBACK_RANDOM:
        state.degraded.append(f"scorer {decision.method} failed, kept at random: {decision.error}")
    services.record(
        Checked(
            t=services.elapsed(),
            problem_id=state.problem.id,
            kept=list(decision.kept),
            dropped=list(decision.dropped),
            scores=dict(decision.scores),
            method=decision.method,
            reason=decision.reason,
            error=decision.error,
            started=started,
        )
    )
    if services.config.record == "full":  # the decision counts in the vote, but nobody ends here
        await record_mark(state, services)
        return
    for trajectory in waiting:
        if trajectory.index in decision.dropped:
            await end(trajectory, StopReason.PRUNED, services, bench)


async def _decide(
    waiting: Sequence[Trajectory], state: ProblemState, services: Services
) -> PruneDecision:
    keep = services.config.prune.keep
    method = services.config.prune.scorer
    indices = [trajectory.index for trajectory in waiting]
    seed, failure = prune_seed(services.config.seed, state.problem.id), None
    if services.scorer is not None and asks_scores(indices, keep, services.selection):
        try:
            async with asyncio.timeout_at(state.budget.soft_deadline):
                values = await services.scorer.score(waiting, state.budget.soft_deadline)
            return prune(
                indices,
                keep,
                services.selection,
                method,
                dict(zip(indices, values, strict=True)),
                seed,
            )
        except Exception as error:  # the boundary: a scorer's failure is a named fallback
            failure = named(error)
    return prune(indices, keep, services.selection, method, None, seed, failure)
