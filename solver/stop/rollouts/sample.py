"""Samples rollouts through the same trajectory code as a solve, many problems in flight at once.

A rollout is a launched trajectory taken to its own end. With Monte-Carlo continuations the launched
ones stop at the mark instead, and each distinct prefix is continued K times with fresh seeds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf

from solver.errors import EngineError
from solver.policy.prefix import own_tokens
from solver.policy.seeds import trajectory_seed
from solver.solving.services import Services
from solver.solving.trajectory import Stage, TrajectoryRun, begin
from solver.stop.rollouts.rerun import RerunResources
from solver.stop.rollouts.rollout import (
    ProblemRollouts,
    Rollout,
    saved_turns,
    statement_digest,
)
from solver.types import Problem, StopReason, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """What to sample for a problem: `launch` rollouts a block, or prefixes and their continuations.

    Up to `stored` sampled tokens are stored (by default up to `mark`), and with `continuations` above 1
    trajectories part at `mark`.
    `share_calls`: equal calls after equal calls of the same problem are executed once, which is sound
    for code whose output does not change. `in_flight` bounds the trajectories under way.
    """

    launch: int
    mark: int
    continuations: int = 1
    share_calls: bool = False
    in_flight: int = 64
    stored: int | None = None

    @property
    def problems_at_once(self) -> int:
        """Under way in one engine: one more than fit, so that its batch stays full while some end."""
        return 1 + -(-self.in_flight // self.launch)


Unit = tuple[Problem, int]  # a problem and a block of its seeds
# Samples every unit, wherever the engines are, and reports each when it is done.
Sampler = Callable[
    [Sequence[Unit], SamplingPlan, Callable[[ProblemRollouts], None]], Awaitable[None]
]


async def sample_all(
    units: Sequence[Unit],
    plan: SamplingPlan,
    services: Services,
    on_done: Callable[[ProblemRollouts], None],
) -> None:
    """Sample every (problem, block), and report each when it is done. Raises `EngineError`."""
    waiting = deque(units)
    slots = asyncio.Semaphore(plan.in_flight)

    async def work() -> None:
        while waiting:
            problem, block = waiting.popleft()
            on_done(await sample_problem(problem, block, plan, services, slots))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(plan.problems_at_once, len(waiting))):
            group.create_task(work())


async def sample_problem(
    problem: Problem, block: int, plan: SamplingPlan, services: Services, slots: asyncio.Semaphore
) -> ProblemRollouts:
    """One problem's rollouts. Raises `EngineError` if every one of them failed."""
    assert problem.answer is not None, "a label needs the answer"
    modulus = services.config.answer.modulus
    prompt = services.dialect.prompt(problem.statement)
    first = block * plan.launch
    launched = [
        begin(problem, index, prompt, services) for index in range(first, first + plan.launch)
    ]
    everyone = list(launched)
    parents: dict[int, int] = {}
    to_the_mark = Stage(plan.mark, inf, StopReason.MARK)
    to_the_end = Stage(services.config.sampling.max_tokens, inf, StopReason.MAX_TOKENS)
    async with RerunResources(
        services.sandboxes, services.engine, everyone, share_calls=plan.share_calls
    ) as resources:

        async def advance(trajectories: Sequence[Trajectory], stage: Stage) -> None:
            runs = [TrajectoryRun(t, services, resources) for t in trajectories]
            await _together(runs, stage, slots)

        if plan.continuations == 1:
            await advance(launched, to_the_end)
        else:
            await advance(launched, to_the_mark)
            continued = _continuations(launched, plan, services)
            everyone += [trajectory for _, trajectory in continued]
            parents = {trajectory.index: parent for parent, trajectory in continued}
            await advance([trajectory for _, trajectory in continued], to_the_end)
    if all(trajectory.stop_reason is StopReason.ERROR for trajectory in launched):
        raise EngineError(f"every rollout of {problem.id} failed: {launched[0].error}")
    return ProblemRollouts(
        problem_id=problem.id,
        statement=statement_digest(problem.statement),
        block=block,
        answer=problem.answer if modulus is None else problem.answer % modulus,
        tags=dict(problem.tags),
        prompt_token_ids=prompt,
        rollouts=[_saved(t, parents.get(t.index), plan.stored or plan.mark) for t in everyone],
    )


async def _together(runs: Sequence[TrajectoryRun], stage: Stage, slots: asyncio.Semaphore) -> None:
    async def one(run: TrajectoryRun) -> None:
        async with slots:
            await run.advance(stage)

    async with asyncio.TaskGroup() as group:
        for run in runs:
            group.create_task(one(run))


def _continuations(
    launched: Sequence[Trajectory], plan: SamplingPlan, services: Services
) -> list[tuple[int, Trajectory]]:
    """K continuations of each distinct prefix, as (index of the first that has it, trajectory)."""
    distinct: dict[tuple[int, ...], Trajectory] = {}
    for trajectory in launched:
        if trajectory.stop_reason is StopReason.MARK:
            distinct.setdefault(tuple(trajectory.token_ids), trajectory)
    index = launched[-1].index
    continued = []
    for parent in distinct.values():
        for _ in range(plan.continuations):
            index += 1
            seed = trajectory_seed(services.config.seed, parent.problem_id, index)
            turns = [_copied(turn) for turn in parent.turns]
            continued.append(
                (
                    parent.index,
                    Trajectory(parent.problem_id, index, seed, parent.prompt_token_ids, turns),
                )
            )
    return continued


def _copied(turn: Turn) -> Turn:
    return Turn(
        list(turn.token_ids),
        list(turn.logprobs),
        list(turn.confidences),
        list(turn.entropies),
        turn.tool_call,
        turn.execution,
        turn.appended_token_ids,
    )


def _saved(trajectory: Trajectory, parent: int | None, stored_tokens: int) -> Rollout:
    assert trajectory.stop_reason is not None, "all trajectories have ended"
    return Rollout(
        index=trajectory.index,
        parent=parent,
        stop_reason=trajectory.stop_reason,
        answer=trajectory.answer,
        error=trajectory.error,
        num_sampled_tokens=trajectory.num_sampled_tokens,
        num_own_tokens=own_tokens(trajectory),
        turns=saved_turns(trajectory, stored_tokens) if parent is None else [],
    )
