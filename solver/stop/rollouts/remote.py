"""Samples rollouts on the actors of a cluster: each takes problems as one process does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from solver.cli.progress import WorkProgress
from solver.distributed.crew import Crew, Member, WorkList
from solver.distributed.tasks import expected_cost
from solver.errors import EngineError
from solver.solving.services import Services
from solver.stop.rollouts.rollout import ProblemRollouts
from solver.stop.rollouts.sample import SamplingPlan, Unit, sample_problem
from solver.types import Problem


@dataclass(frozen=True, slots=True)
class SampleTask:
    """Sample the rollouts of one problem and block."""

    problem: Problem
    block: int
    plan: SamplingPlan
    elapsed_s: float = 0.0  # nothing of it is recorded in a journal

    # Of an actor's process: problems that it samples side by side share what may be in flight.
    _slots: ClassVar[dict[int, asyncio.Semaphore]] = {}

    async def work(self, services: Services) -> ProblemRollouts:
        """The rollouts. Raises `EngineError` if every one of them failed."""
        slots = self._slots.setdefault(self.plan.in_flight, asyncio.Semaphore(self.plan.in_flight))
        return await sample_problem(self.problem, self.block, self.plan, services, slots)


async def sample_remotely(
    units: Sequence[Unit],
    plan: SamplingPlan,
    crew: Crew,
    on_done: Callable[[ProblemRollouts], None],
    progress: WorkProgress,
) -> None:
    """Sample every unit on a crew, and report each when it is done.

    Raises `EngineError` if no actor is left; what was reported is sampled for good.
    """

    async def serve(unit: Unit, member: Member) -> None:
        problem, block = unit
        rollouts: object = None
        async with aclosing(member.actor.serve(SampleTask(problem, block, plan))) as batches:
            async for batch in batches:
                member.rate.add(batch.sampled)
                progress.sampled(batch.sampled)
                rollouts = batch.result or rollouts
        assert isinstance(rollouts, ProblemRollouts), "the last batch has the rollouts"
        on_done(rollouts)

    undone: list[str] = []
    await crew.work(
        WorkList(units, lambda unit: expected_cost(unit[0])),
        serve,
        at_once=plan.problems_at_once,
        name=lambda unit: unit[0].id,
        on_undone=lambda unit, why: undone.append(f"{unit[0].id}: {why}"),
        stopping=asyncio.Event(),  # a Ctrl-C ends it at once: what is done is in the file
    )
    if undone:
        raise EngineError(f"{len(undone)} problems were not sampled, the first is {undone[0]}")
