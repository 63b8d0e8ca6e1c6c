"""problem -> launch -> check -> resume -> vote -> answer."""

from __future__ import annotations

from math import isfinite

from solver.journal.events import ProblemStarted
from solver.solving.check import check
from solver.solving.launch import launch
from solver.solving.recording import record_other_marks
from solver.solving.resources import Workbench
from solver.solving.resume import resume
from solver.solving.services import Services
from solver.solving.state import ProblemState
from solver.types import Vote


async def solve(state: ProblemState, services: Services) -> Vote:
    """Solve one problem inside its budget; everything found on the way is left in `state`."""
    prompt = services.dialect.prompt(state.problem.statement)
    services.record(
        ProblemStarted(
            t=services.elapsed(),
            problem_id=state.problem.id,
            prompt_token_ids=prompt,
            allotted_s=state.budget.allotted_s if isfinite(state.budget.allotted_s) else None,
        )
    )
    if concern := await services.concern(prompt):
        state.degraded.append(concern)
    async with Workbench(services.sandboxes, services.engine, state.trajectories) as bench:
        await launch(state, prompt, services, bench)
        await check(state, services, bench)
        await resume(state, services, bench)
        await record_other_marks(state, services)
    return state.final_vote(services.config.vote)
