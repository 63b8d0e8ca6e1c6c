"""`python -m submissions.worker`: the solver in a process of its own, one problem after the other.

It reads tasks from stdin and writes messages to stdout (`protocol.py`); everything that is printed goes
to stderr. The journal is in its run folder: a restarted worker answers solved problems from it, and lets
the finished trajectories of an unsolved problem vote.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import asdict
from pathlib import Path

from solver.cli.leftovers import hide_leftovers
from solver.config import SolverConfig
from solver.errors import EngineError, InputError, UserError
from solver.files.jsonl import repair
from solver.journal.events import Event, ProblemStarted, Solved, first_event
from solver.journal.history import history_of
from solver.journal.reader import JournalReader
from solver.journal.writer import JournalWriter
from solver.solving.services import Services
from solver.solving.session import answer_problem
from solver.types import Degradation, DegradationKind, Problem, SamplingParams
from submissions.faults import FaultInjector, parse_faults
from submissions.pipes import sender, tasks
from submissions.protocol import Done, Heartbeat, Message, Ready, Refused, Task
from submissions.runfolder import JOURNAL, KEPT_FREE
from submissions.settings import Rehearsal
from submissions.votes import VotesSoFar

_HEARTBEAT_S = 0.2
_PROBE_S = 60.0
_SLOW_START_SHARE = 0.1  # of the time limit
_OOM_SCORE = "500"  # if memory runs out, the system kills this process before the notebook

Build = Callable[..., AbstractAsyncContextManager[Services]]


def main(argv: Sequence[str], build: Build | None = None) -> int:
    """Serve tasks until stdin ends. `build` opens the services; default: `solver.build.services`."""
    parser = argparse.ArgumentParser(prog="python -m submissions.worker")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--started-at", type=float, required=True)
    options = parser.parse_args(argv)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    hide_leftovers()
    send = sender()
    try:
        asyncio.run(_Worker(options.folder, options.started_at, send).serve(build))
    except UserError as error:
        send(Refused(message=str(error)))
        return 2
    except BrokenPipeError:  # the notebook has ended
        return 1
    return 0


class _Worker:
    def __init__(self, folder: Path, started_at: float, send: Callable[[Message], None]) -> None:
        self._folder = folder
        self._started_at = started_at
        self._send = send
        self._config = SolverConfig.model_validate_json((folder / "config.json").read_bytes())
        self._path = folder / JOURNAL
        self._journal: JournalWriter | None = None
        self._solved: dict[str, Solved] = {}
        self._begun: set[str] = set()  # by an earlier worker
        self._votes = VotesSoFar(self._config.vote, send)
        rehearsal = Rehearsal.here()
        slow_start_s = _SLOW_START_SHARE * rehearsal.limit_s if rehearsal else 0.0
        faults = parse_faults(rehearsal.faults) if rehearsal else ()
        self._faults = FaultInjector(faults, folder, slow_start_s)

    async def serve(self, build: Build | None) -> None:
        self._faults.start()
        with contextlib.ExitStack() as closing:
            resumed = self._open_journal(closing)
            async with (build or _real_services())(
                self._config,
                record=self._record,
                started_at=self._started_at,
                stopping=asyncio.Event(),
                say=_print_error,
                log_folder=self._folder,
            ) as services:
                # No problems are named: they come one at a time.
                if self._journal is not None:
                    first = first_event(
                        services.elapsed(),
                        self._config,
                        resumed=resumed,
                        engine=asdict(services.engine.capabilities),
                        isolation=services.sandboxes.isolation,
                    )
                    self._journal.record(first)
                heartbeats = asyncio.create_task(self._send_heartbeats())
                self._send(Ready())
                try:
                    await self._work(services)
                finally:
                    heartbeats.cancel()

    def _open_journal(self, closing: contextlib.ExitStack) -> bool:
        """Open the journal, if that is possible, and read what is in it; whether anything is."""
        resumed = False
        try:
            journal = JournalWriter(self._path, _print_error, keep_free=KEPT_FREE)
            closing.callback(journal.close)
            resumed = self._path.stat().st_size > 0
            if resumed:
                repair(self._path)
            self._journal = journal
        except (InputError, OSError) as error:  # a log that cannot be written costs no answer
            _print_error(f"no journal is written: {error}")
        if resumed:
            self._read_earlier_run()
        return resumed

    def _read_earlier_run(self) -> None:
        """Read which problems an earlier worker solved or began from the journal."""
        for event in self._recorded('"type":"solved"'):
            if isinstance(event, Solved):
                self._solved[event.problem_id] = event
        for event in self._recorded('"type":"problem_started"'):
            if isinstance(event, ProblemStarted):
                self._begun.add(event.problem_id)

    def _recorded(self, mentioning: str) -> Iterator[Event]:
        """The events whose lines hold `mentioning`, whatever the rest of the journal looks like."""
        reader = JournalReader(self._path, tolerant=True)
        return (event for event, _ in reader.events(mentioning))

    async def _send_heartbeats(self) -> None:
        while True:
            self._send(Heartbeat())
            await asyncio.sleep(_HEARTBEAT_S)

    async def _work(self, services: Services) -> None:
        """One problem at a time; a new task cancels the last one, which is answered or overdue."""
        current: asyncio.Task[None] | None = None
        try:
            async for task in tasks():
                await _cancelled(current)
                current = asyncio.create_task(self._answer(task, services))
        finally:
            await _cancelled(current)

    async def _answer(self, task: Task, services: Services) -> None:
        try:
            if task.problem_id not in self._solved:
                if self._faults.begin(task.number):
                    await asyncio.Event().wait()
                self._solved[task.problem_id] = await self._solve(task, services)
            self._send(Done(solved=self._solved[task.problem_id]))
        except Exception:  # failures of a problem are answers: this is a dead engine or a bug
            with contextlib.suppress(OSError):
                traceback.print_exc()
            os._exit(1)

    async def _solve(self, task: Task, services: Services) -> Solved:
        events: Iterator[Event] = iter(())
        if task.problem_id in self._begun:
            events = self._recorded(json.dumps(task.problem_id, ensure_ascii=False))
        history = history_of(events, task.problem_id, self._config.seed)
        finished = history.finished_trajectories()
        self._votes.begin(history)
        budget, problem = task.budget, Problem(task.problem_id, task.statement)
        solved = await answer_problem(problem, budget, services, finished)
        has_time = services.clock.now() < budget.soft_deadline
        if solved.num_votes == 0 and has_time and not await _samples(services):
            raise EngineError("the engine samples nothing any more: a new process opens a new one")
        if _failed(solved) and services.clock.now() < budget.soft_deadline:
            again = await answer_problem(problem, budget, services)
            then = Degradation(DegradationKind.TRIED_AGAIN, "tried again")
            degradations = [*solved.degradations, then, *again.degradations]
            solved = again.model_copy(update={"degradations": degradations})
        with contextlib.suppress(
            Exception
        ):  # a fault injected at the vote: the answer exists already
            services.record(solved)
        return solved

    def _record(self, event: Event) -> None:
        if self._journal is not None:
            self._journal.record(event)
        self._votes.observe(event)
        self._faults.observe(event)


async def _samples(services: Services) -> bool:
    """Whether the engine gives a token of a short prompt."""
    prompt = services.dialect.prompt("1 + 1 = ?")
    params = SamplingParams(max_tokens=1, seed=0, temperature=0.0)
    try:
        async with (
            asyncio.timeout(_PROBE_S),
            aclosing(services.engine.generate("probe", prompt, params)) as chunks,
        ):
            async for chunk in chunks:
                if chunk.token_ids:
                    return True
    except Exception:  # whatever it is, nothing can be sampled
        return False
    finally:
        with contextlib.suppress(Exception):
            await services.engine.release("probe")
    return False


def _failed(solved: Solved) -> bool:
    kinds = {degradation.kind for degradation in solved.degradations}
    return solved.num_votes == 0 and DegradationKind.FAILED in kinds


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    if task is not None and not task.done():
        task.cancel()
    if task is not None:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _real_services() -> Build:
    from solver.build import services

    return services


def _print_error(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
