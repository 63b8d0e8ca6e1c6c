"""A session: every problem in turn, or a few at once, each with its share of the time, each with an
answer at the end.

The only module that turns failure into an answer: whatever happens inside a problem, the vote is
taken from what was reached, and a fallback is written when nothing was; `degradations` says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import inf

from solver.errors import named
from solver.journal.events import Solved
from solver.policy.pace import Taken, taken_by
from solver.solving.concurrency import run_together
from solver.solving.room import Room
from solver.solving.schedule import Schedule
from solver.solving.services import Services
from solver.solving.solve import solve
from solver.solving.state import ProblemState
from solver.types import DegradationKind, Problem, ProblemBudget, StopReason, Trajectory

_OWN_ENDS = (StopReason.ANSWERED, StopReason.MAX_TOKENS, StopReason.MAX_TURNS)
_WITHOUT_LENGTH = {None, StopReason.MARK, StopReason.PRUNED, StopReason.ERROR}
OVERRUN_S = 0.5  # past its deadline a problem that still closes things is left behind


async def run_session(
    problems: Sequence[Problem], services: Services, *, solved: Mapping[str, Solved]
) -> list[Solved]:
    """One `Solved` for each problem, in order; those in `solved` are taken over as they are.

    Never raises for a problem's failure. After `services.stopping` the problem under way is answered by
    the votes it has and the rest get the fallback answer; neither is recorded, so that a later run solves
    them.
    """
    prune = services.selection.of(services.config.prune)
    schedule = Schedule(
        problems,
        solved,
        services.config,
        prune,
        services.clock,
        services.started_at,
        by_pace=services.recording.stops_early,
        spread=True,
    )
    room, waiting = Room(), iter(schedule.unsolved)

    async def take_turns() -> None:
        for problem in waiting:
            async with room.taken(schedule.budget) as budget:
                answer = await answer_problem(problem, budget, services)
                began = services.clock.now()
                recorded = not services.stopping.is_set()
                if recorded:
                    services.record(answer)
                schedule.answered(answer, services.clock.now() - began if recorded else None)

    most = services.config.budget.problems_at_once * prune.launch
    takers = [take_turns() for _ in range(min(most, len(schedule.unsolved)))]
    # A stop is each problem's own business: every one of them still gets its answer.
    await run_together(takers, deadline=inf, stopping=asyncio.Event())
    return schedule.answers


async def answer_problem(
    problem: Problem,
    budget: ProblemBudget,
    services: Services,
    finished: Sequence[Trajectory] = (),
) -> Solved:
    """The answer of one problem inside `budget`, whatever happens; the caller records it.

    `finished` are trajectories of an earlier process that ended for good: they are not run again,
    and vote as they are.
    """
    began, incidents_before = services.clock.now(), len(services.incidents)
    state = ProblemState(problem, budget, list(finished))
    if services.stopping.is_set():
        state.degrade(DegradationKind.INTERRUPTED, "interrupted: not started")
    elif budget.allotted_s <= 0:
        state.degrade(DegradationKind.OUT_OF_TIME, budget.why or "no time: not started")
    else:
        if budget.why:
            state.degrade(DegradationKind.SHRUNK, budget.why)
        await _try_to_solve(state, services)
    for incident in services.incidents[incidents_before:]:
        state.degrade(DegradationKind.ENGINE_INCIDENT, incident)
    return _conclude(state, began, services)


async def _try_to_solve(state: ProblemState, services: Services) -> None:
    try:
        async with asyncio.timeout_at(state.budget.deadline + OVERRUN_S):
            await solve(state, services)
    except Exception as error:  # the boundary: a problem's failure becomes a degraded answer
        state.degrade(DegradationKind.FAILED, f"failed: {named(error)}")


def _conclude(state: ProblemState, began: float, services: Services) -> Solved:
    failed = [t.error for t in state.trajectories if t.error is not None]
    if failed:
        detail = f"{len(failed)} trajectories failed, the first with {failed[0]}"
        state.degrade(DegradationKind.TRAJECTORIES_FAILED, detail)
    unverified = [t.unverified for t in state.trajectories if t.unverified is not None]
    if unverified:
        detail = f"the last check failed for {len(unverified)} trajectories, the first with {unverified[0]}"
        state.degrade(DegradationKind.SCORER_FAILED, detail)
    elapsed_s = services.clock.now() - began
    taken = _taken(state, elapsed_s, services)
    return state.solved(services.config, t=services.elapsed(), elapsed_s=elapsed_s, taken=taken)


def _taken(state: ProblemState, elapsed_s: float, services: Services) -> Taken | None:
    """What the problem took, for the budgets of those after it; None if nobody went beyond the mark."""
    config = services.config
    prune = services.selection.of(config.prune)

    def lengths(*reasons: StopReason, silent: bool | None = None) -> list[int]:
        return [
            trajectory.num_sampled_tokens
            for trajectory in state.trajectories
            if trajectory.stop_reason in reasons and silent in (None, trajectory.answer is None)
        ]

    voted = [t for t in state.trajectories if t.stop_reason not in _WITHOUT_LENGTH]
    if not voted:
        return None
    return taken_by(
        steps=services.meter.take(),
        ended=lengths(*_OWN_ENDS),
        stopped=lengths(StopReason.CONSENSUS),
        cut=lengths(StopReason.DEADLINE, silent=False),
        silent=lengths(StopReason.DEADLINE, silent=True),
        tools_s=[_tool_seconds(trajectory) for trajectory in voted],
        check_s=state.check_s / max(1, state.num_scored),
        elapsed_s=elapsed_s,
        launch=state.budget.launch or prune.launch,
        checks=state.budget.checks or prune.checks,
        most=config.sampling.max_tokens,
        at_once=state.budget.at_once,
    )


def _tool_seconds(trajectory: Trajectory) -> float:
    return sum(turn.execution.duration_s for turn in trajectory.turns if turn.execution is not None)
