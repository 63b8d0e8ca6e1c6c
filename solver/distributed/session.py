"""A session on many engines: every problem gets an answer, as in `solver.solving.session`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import inf

from solver.config import SolverConfig
from solver.distributed.crew import Crew, Member, WhyUndone, WorkList
from solver.distributed.tasks import Batch, SolveTask, expected_cost
from solver.journal.events import EVENTS, Event, Solved
from solver.journal.history import RunHistory
from solver.policy.consensus import final_vote
from solver.policy.weights import weigh
from solver.ports import Clock
from solver.scorers import find_scorer
from solver.solving.schedule import Schedule
from solver.solving.session import OVERRUN_S
from solver.solving.state import not_begun
from solver.types import Degradation, DegradationKind, Problem

_KINDS = {
    WhyUndone.TRIES: DegradationKind.FAILED,
    WhyUndone.STOPPED: DegradationKind.INTERRUPTED,
    WhyUndone.NOBODY: DegradationKind.INTERRUPTED,
    WhyUndone.LATE: DegradationKind.OUT_OF_TIME,
}


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a session's events go.

    `record` takes one event, `append` whole lines of the journal with the events in them; both let
    `history` become what they say. `on_sampled` is told of tokens, when they come. `started_at` is when the
    command began on `clock`, the driver's.
    """

    config: SolverConfig
    clock: Clock
    started_at: float
    history: RunHistory
    record: Callable[[Event], None]
    append: Callable[[bytes, Sequence[Event]], None]
    on_sampled: Callable[[int], None]
    stopping: asyncio.Event

    def elapsed(self) -> float:
        """Seconds since the command began: the `t` of events."""
        return self.clock.now() - self.started_at


async def run_session(
    problems: Sequence[Problem], crew: Crew, desk: Desk, *, solved: Mapping[str, Solved]
) -> list[Solved]:
    """One `Solved` for each problem, in order; those in `solved` are taken over as they are.

    Never raises for a problem's failure or a lost actor. What had no answer when `desk.stopping` was set, or
    when no actor was left, gets one that is not recorded: a later run solves it.
    """
    config, clock = desk.config, desk.clock
    schedule = Schedule(
        problems,
        solved,
        config,
        find_scorer(config.prune.scorer).selection.of(config.prune),
        clock,
        desk.started_at,
        by_pace=config.record != "full",
        engines=crew.num_working,
    )

    async def serve(problem: Problem, member: Member) -> None:
        answer = await _solve(problem, member, schedule, crew, desk)
        began = clock.now()
        recorded = not desk.stopping.is_set()
        if recorded:
            desk.record(answer)
        schedule.answered(answer, clock.now() - began if recorded else None)

    def give_up(problem: Problem, why: WhyUndone) -> None:
        kind = _KINDS[why]
        answer = _so_far(problem, desk, Degradation(kind, why.value))
        if kind is not DegradationKind.INTERRUPTED:
            desk.record(answer)
        schedule.answered(answer, None)

    work = WorkList(schedule.unsolved, expected_cost)
    limit = config.budget.time_limit_s
    deadline = inf
    if limit is not None:
        deadline = desk.started_at + limit - config.budget.closing_s + OVERRUN_S
    await crew.work(
        work,
        serve,
        at_once=config.budget.problems_at_once,
        name=lambda problem: problem.id,
        on_undone=give_up,
        stopping=desk.stopping,
        deadline=deadline,
    )
    return schedule.answers


async def _solve(
    problem: Problem, member: Member, schedule: Schedule, crew: Crew, desk: Desk
) -> Solved:
    """Its answer by one actor, or if that is overdue, by the votes that have come. Raises `ActorLost`."""
    budget = schedule.budget(crew.num_working)
    if budget.allotted_s <= 0:
        why = Degradation(DegradationKind.OUT_OF_TIME, budget.why or "no time: not started")
        return _so_far(problem, desk, why)
    task = SolveTask(problem, budget, budget.deadline - desk.clock.now(), desk.elapsed())
    answer: object = None
    try:
        async with asyncio.timeout_at(
            None if budget.deadline == inf else budget.deadline + OVERRUN_S
        ):
            async with aclosing(member.actor.serve(task)) as batches:
                async for batch in batches:
                    _take(batch, member, desk)
                    answer = batch.result or answer
    except TimeoutError:
        why = Degradation(DegradationKind.OUT_OF_TIME, f"time was short: {member.where} is silent")
        return _so_far(problem, desk, why)
    assert isinstance(answer, Solved), "the last batch has the answer"
    return answer


def _take(batch: Batch, member: Member, desk: Desk) -> None:
    if batch.sampled:
        member.rate.add(batch.sampled)
        desk.on_sampled(batch.sampled)
    if batch.lines:
        desk.append(batch.lines, [EVENTS.validate_json(line) for line in batch.lines.splitlines()])


def _so_far(problem: Problem, desk: Desk, why: Degradation) -> Solved:
    """The vote of the trajectories that have ended as far as the driver knows, or the fallback answer."""
    fallback = not_begun(problem, desk.config, desk.elapsed(), why)
    known = desk.history.problems.get(problem.id)
    if known is None:
        return fallback
    ballots = weigh(known.ballots, known.last_scores, desk.config.vote)
    vote = final_vote(ballots, len(ballots), desk.config.vote)
    if vote.answer is None:
        return fallback
    return fallback.model_copy(
        update={
            "answer": vote.answer,
            "votes": dict(vote.counts),
            "weights": dict(vote.weights),
            "num_votes": vote.num_votes,
            "margin": vote.margin,
            "tied": vote.tied,
            "elapsed_s": desk.elapsed() - known.started,
            "sampled_tokens": sum(t.num_tokens for t in known.trajectories.values()),
            "degradations": [why],
        }
    )
