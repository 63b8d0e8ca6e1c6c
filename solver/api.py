"""The solver for Python programs: `Solver`, its `Result`, and `solve` for where nothing can be awaited.

    async with Solver(load_config()) as solver:
        result = await solver.solve("What is 6 * 7?")

The model is loaded, or its server started, when the `async with` is entered, and everything is closed
when it is left. Failures of a problem become a degraded result, as in a run of the command.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from types import TracebackType

from solver.cli.leftovers import hide_broken_leftovers
from solver.clock import MonotonicClock
from solver.config import SolverConfig
from solver.errors import InputError
from solver.journal.events import Event, Solved
from solver.journal.summary import is_correct
from solver.runs.settings import load_config
from solver.solving.services import Services
from solver.solving.session import run_session
from solver.types import Problem


@dataclass(frozen=True, slots=True)
class Result:
    """The answer of one problem, and what it rests on.

    `votes` maps answers to ballots, the best answer first; `margin` is the winner's lead in ballots.
    `degraded` says what went wrong on the way, in sentences; empty if nothing did. `right` is None where
    the problem's answer is not known. `elapsed_s` in seconds, `sampled_tokens` over all trajectories.
    """

    problem: Problem
    answer: int
    votes: Mapping[int, int]
    num_votes: int
    margin: int
    right: bool | None
    degraded: tuple[str, ...]
    elapsed_s: float
    sampled_tokens: int


class Solver:
    """A loaded model with its kernels, ready to solve problems; use it in an `async with`.

    Calls may overlap: their trajectories share the engine's batch. `config` is what `load_config`
    gives (default: the embedded model). `on_event` is called with each event of the problems as it happens
    (solver.journal.events; a run's journal holds the same between its first and its last line).
    """

    def __init__(
        self, config: SolverConfig | None = None, *, on_event: Callable[[Event], None] | None = None
    ) -> None:
        self.config = config or load_config()
        self._on_event = on_event or _ignore
        self._stack = AsyncExitStack()
        self._services: Services | None = None
        self._under_way: set[str] = set()

    async def __aenter__(self) -> Solver:
        """Load the model and start the kernels. Raises `UserError` with one line that says what to do."""
        await asyncio.to_thread(hide_broken_leftovers)
        from solver.build import services  # imports the engine, and with it torch

        opening = services(
            self.config,
            record=self._on_event,
            started_at=MonotonicClock().now(),
            stopping=asyncio.Event(),
        )
        self._services = await self._stack.enter_async_context(opening)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._services = None
        await self._stack.aclose()

    async def solve(self, problem: str | Problem) -> Result:
        """The result of one problem, a statement or a `Problem`.

        A failure while solving is no exception: the result says so in `degraded`. The config's time
        limit, if it has one, counts from this call.
        """
        results = [result async for result in self.solve_many([problem])]
        return results[0]

    async def solve_many(self, problems: Iterable[str | Problem]) -> AsyncGenerator[Result, None]:
        """The results of many problems, each as soon as it is there.

        `budget.problems_at_once` of them are solved side by side; the config's time limit counts from
        this call, for all of them. Closing the iterator ends what is under way. Raises `InputError` where
        two problems have one id, or one is being solved by another call.
        """
        named = self._named(problems)
        solved: asyncio.Queue[Solved | None] = asyncio.Queue()
        services = self._for_one_call(solved.put_nowait)

        async def session() -> None:
            try:
                await run_session(list(named.values()), services, solved={})
            finally:
                solved.put_nowait(None)

        self._under_way |= named.keys()
        task = asyncio.create_task(session())
        try:
            while (event := await solved.get()) is not None:
                yield _result(event, named[event.problem_id], self.config)
            await task  # raises what a bug raised
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._under_way -= named.keys()

    def _named(self, problems: Iterable[str | Problem]) -> dict[str, Problem]:
        found: dict[str, Problem] = {}
        for given in problems:
            problem = given if isinstance(given, Problem) else _problem(given)
            if not isinstance(problem.id, str) or not isinstance(problem.statement, str):
                raise InputError(f"a problem's id and statement are texts, not {given!r:.80}")
            if problem.id in found or problem.id in self._under_way:
                raise InputError(
                    f"the problem {problem.id[:40]!r} is given twice; give each an id of its own"
                )
            found[problem.id] = problem
        return found

    def _for_one_call(self, on_solved: Callable[[Solved], None]) -> Services:
        if self._services is None:
            raise RuntimeError("the solver is closed: use it inside `async with Solver(...)`")

        def record(event: Event) -> None:
            self._on_event(event)
            if isinstance(event, Solved):
                on_solved(event)

        return replace(
            self._services,
            record=record,
            started_at=self._services.clock.now(),
            stopping=asyncio.Event(),
        )


def solve(problem: str | Problem, config: SolverConfig | None = None) -> Result:
    """Open a `Solver`, solve one problem and close it, in a thread of its own.

    It works where an event loop is running already, as in a notebook's cell. Each call loads the model:
    for several problems use `Solver`.
    """

    under_way: Future[Callable[[], object]] = Future()

    async def once() -> Result:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None, "asyncio.run makes one"
        under_way.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        async with Solver(config) as solver:
            return await solver.solve(problem)

    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            return thread.submit(asyncio.run, once()).result()
        except KeyboardInterrupt:  # also a notebook's: nobody waits for the answer any more
            # where it came before anything began, or just as all was over
            with contextlib.suppress(TimeoutError, RuntimeError):
                under_way.result(timeout=1.0)()
            raise


def _ignore(event: Event) -> None:
    """Take in an event that nobody asked for."""


def _problem(statement: str) -> Problem:
    """A problem named by its statement, so that its seeds are the same in every call."""
    return Problem(sha256(statement.encode("utf-8", "replace")).hexdigest()[:12], statement)


def _result(event: Solved, problem: Problem, config: SolverConfig) -> Result:
    right = is_correct(event.answer, problem, config.answer.modulus)
    return Result(
        problem=problem,
        answer=event.answer,
        votes=dict(sorted(event.votes.items(), key=lambda vote: (-vote[1], vote[0]))),
        num_votes=event.num_votes,
        margin=event.margin,
        right=None if problem.answer is None else right,
        degraded=tuple(event.degraded),
        elapsed_s=event.elapsed_s,
        sampled_tokens=event.sampled_tokens,
    )
