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
from solver.policy.budget import allot, even_share
from solver.solving.concurrency import run_together
from solver.solving.services import Services
from solver.solving.solve import solve
from solver.solving.state import ProblemState
from solver.types import DegradationKind, Problem, ProblemBudget, Trajectory

_OVERRUN_S = 0.5  # past its deadline a problem that still closes things is left behind


async def run_session(
    problems: Sequence[Problem], services: Services, *, solved: Mapping[str, Solved]
) -> list[Solved]:
    """One `Solved` for each problem, in order; those in `solved` are taken over as they are.

    Never raises for a problem's failure. After `services.stopping` the problem under way is answered by
    the votes it has and the rest get the fallback answer; neither is recorded, so that a later run solves
    them.
    """
    answers = dict(solved)
    unsolved = [problem for problem in problems if problem.id not in solved]
    first_share = _even_share(len(unsolved), services) if unsolved else 0.0
    waiting = iter(unsolved)

    async def take_turns() -> None:
        for problem in waiting:
            problems_left = len(problems) - len(answers)  # those of the other takers included
            answer = await _answer(problem, problems_left, first_share, services)
            if not services.stopping.is_set():
                services.record(answer)
            answers[problem.id] = answer

    takers = [take_turns() for _ in range(services.config.budget.problems_at_once)]
    # A stop is each problem's own business: every one of them still gets its answer.
    await run_together(takers, deadline=inf, stopping=asyncio.Event())
    return [answers[problem.id] for problem in problems]


def _run_deadline(services: Services) -> float | None:
    limit = services.config.budget.time_limit_s
    return None if limit is None else services.started_at + limit


def _even_share(problems_left: int, services: Services) -> float:
    budget = services.config.budget
    return even_share(services.clock.now(), _run_deadline(services), problems_left, budget)


async def _answer(
    problem: Problem, problems_left: int, first_share: float, services: Services
) -> Solved:
    budget = allot(
        services.clock.now(),
        _run_deadline(services),
        problems_left,
        services.config.budget,
        first_share,
    )
    return await answer_problem(problem, budget, services)


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
        state.degrade(DegradationKind.OUT_OF_TIME, "no time left: not started")
    else:
        await _try_to_solve(state, services)
    for incident in services.incidents[incidents_before:]:
        state.degrade(DegradationKind.ENGINE_INCIDENT, incident)
    return _conclude(state, began, services)


async def _try_to_solve(state: ProblemState, services: Services) -> None:
    try:
        async with asyncio.timeout_at(state.budget.deadline + _OVERRUN_S):
            await solve(state, services)
    except Exception as error:  # the boundary: a problem's failure becomes a degraded answer
        state.degrade(DegradationKind.FAILED, f"failed: {named(error)}")


def _conclude(state: ProblemState, began: float, services: Services) -> Solved:
    config = services.config
    failed = [t.error for t in state.trajectories if t.error is not None]
    if failed:
        detail = f"{len(failed)} trajectories failed, the first with {failed[0]}"
        state.degrade(DegradationKind.TRAJECTORIES_FAILED, detail)
    vote = state.final_vote(config.vote)
    answer = vote.answer
    if answer is None:
        answer = config.answer.fallback_answer
        state.degrade(DegradationKind.NO_VOTE, f"no vote: fallback answer {answer}")
    return Solved(
        t=services.elapsed(),
        problem_id=state.problem.id,
        answer=answer,
        votes=dict(vote.counts),
        weights=dict(vote.weights),
        num_votes=vote.num_votes,
        margin=vote.margin,
        tied=vote.tied,
        decided_early=vote.decided_early,
        elapsed_s=services.clock.now() - began,
        sampled_tokens=sum(t.num_sampled_tokens for t in state.trajectories),
        reused_tokens=sum(t.reused_tokens for t in state.trajectories),
        encoded_tokens=sum(t.encoded_tokens for t in state.trajectories),
        degradations=state.degradations,
    )
