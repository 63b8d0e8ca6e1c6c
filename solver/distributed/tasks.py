"""What is sent to an actor and what comes back.

Clocks of machines differ: times that are sent are durations, and the events that come back have the times of
the run, as if the driver's own process had written them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from solver.journal.events import Solved
from solver.solving.services import Services
from solver.solving.session import answer_problem
from solver.types import Problem, ProblemBudget

R_co = TypeVar("R_co", covariant=True)

COST = "cost"  # a column of the problems file, in any unit


def expected_cost(problem: Problem) -> float | None:
    """What a problem is expected to take, where its file says so in a column `cost`."""
    try:
        return float(problem.tags[COST])
    except (KeyError, ValueError):
        return None


class Task(Protocol[R_co]):
    """Work on one problem, pickled to an actor. `elapsed_s` is how long the run took when it was sent."""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the command started."""
        ...

    async def work(self, services: Services) -> R_co:
        """Do it with an actor's services; what it records and samples on the way is streamed back."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What an actor has to tell: whole lines of the journal, and how many tokens were sampled.

    The last one of a task holds its `result`.
    """

    lines: bytes = b""
    sampled: int = 0
    result: object = None


@dataclass(frozen=True, slots=True)
class SolveTask:
    """Answer one problem, within `left_s` seconds from now; the deadline in `budget` is not looked at."""

    problem: Problem
    budget: ProblemBudget
    left_s: float
    elapsed_s: float

    async def work(self, services: Services) -> Solved:
        """Its answer, whatever happens; the driver records it."""
        deadline = services.clock.now() + self.left_s
        return await answer_problem(self.problem, replace(self.budget, deadline=deadline), services)
