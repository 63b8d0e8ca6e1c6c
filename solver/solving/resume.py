"""Resume: finish the survivors, stop when the vote is decided, force answers when time is short."""

from __future__ import annotations

from collections.abc import Sequence

from solver.errors import named
from solver.solving.concurrency import run_together
from solver.solving.resources import Workbench
from solver.solving.services import Services
from solver.solving.state import ProblemState
from solver.solving.trajectory import Stage, advance, end, force_answer
from solver.types import StopReason, Trajectory


async def resume(state: ProblemState, services: Services, bench: Workbench) -> None:
    """Let every survivor vote, or as many as the rule needs, or as many as time allows."""
    await _finish(state.survivors(), state, services, bench)
    if dropped := state.dropped():
        # Only a full recording has any. They come last: so the survivors' times are those of
        # a run, and a replay can tell the engine's speed with few streams from that with many.
        services.sandboxes.prepare(len(dropped))
        await _finish(dropped, state, services, bench)
    unfinished = state.waiting()
    if not unfinished:
        return
    if _decided(state, services):
        for trajectory in unfinished:
            await end(trajectory, StopReason.CONSENSUS, services, bench)
        return
    await _force(unfinished, state, services, bench)


async def _finish(
    trajectories: Sequence[Trajectory], state: ProblemState, services: Services, bench: Workbench
) -> None:
    max_tokens = services.config.sampling.max_tokens
    stage = Stage(max_tokens, state.budget.soft_deadline, at_limit=StopReason.MAX_TOKENS)
    await run_together(
        (advance(trajectory, stage, services, bench) for trajectory in trajectories),
        deadline=stage.deadline,
        stopping=services.stopping,
        until=lambda: _decided(state, services),
    )


def _decided(state: ProblemState, services: Services) -> bool:
    """Whether the vote is known and nobody is needed any more; a full recording needs everybody."""
    config = services.config
    return config.record != "full" and state.early_vote(config.vote) is not None


async def _force(
    unfinished: list[Trajectory], state: ProblemState, services: Services, bench: Workbench
) -> None:
    """A forced answer for each, inside the reserve; a stop asked by the user leaves them silent."""
    await run_together(
        (_force_one(trajectory, services) for trajectory in unfinished),
        deadline=state.budget.deadline,
        stopping=services.stopping,
    )
    for trajectory in unfinished:
        await end(trajectory, StopReason.DEADLINE, services, bench)
    why = "interrupted" if services.stopping.is_set() else "time was short"
    state.degraded.append(f"{why}: {len(unfinished)} trajectories cut short")


async def _force_one(trajectory: Trajectory, services: Services) -> None:
    try:
        await force_answer(trajectory, services)
    except Exception as error:  # the boundary: one failed answer never costs the others
        trajectory.error = named(error)
