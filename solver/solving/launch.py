"""Launch: N trajectories, each to the token mark or to its own earlier end."""

from __future__ import annotations

from solver.solving.concurrency import run_together
from solver.solving.resources import Workbench
from solver.solving.services import Services
from solver.solving.state import ProblemState
from solver.solving.trajectory import Stage, advance, begin
from solver.types import StopReason


async def launch(
    state: ProblemState, prompt: list[int], services: Services, bench: Workbench
) -> None:
    """Fill `state.trajectories`; at the soft deadline those under way stay where they are.

    Those that are there already have ended in an earlier process and stay as they are.
    """
    prune = services.config.prune
    services.sandboxes.prepare(prune.keep)
    stage = Stage(prune.mark, state.budget.soft_deadline, at_limit=StopReason.MARK)
    ended = {trajectory.index for trajectory in state.trajectories}
    state.trajectories += [
        begin(state.problem, index, prompt, services)
        for index in range(prune.launch)
        if index not in ended
    ]
    await run_together(
        (advance(trajectory, stage, services, bench) for trajectory in state.waiting()),
        deadline=stage.deadline,
        stopping=services.stopping,
    )
