"""Runs the session of a run folder, with its journal, signal handling and live view."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from solver.cli.app import EXIT_INTERRUPTED
from solver.clock import MonotonicClock
from solver.config import BudgetConfig
from solver.distributed.hands import Hands
from solver.embedded.paths import model_folder
from solver.errors import UserError
from solver.files.gguf import is_gguf
from solver.journal.events import (
    Event,
    RunEnded,
    RunResumed,
    RunStarted,
    Solved,
    first_event,
)
from solver.journal.summary import Summary, summarize
from solver.runs.console import RunConsole, print_error, print_report, print_results
from solver.runs.ending import end_at, end_now
from solver.runs.folder import RunFolder
from solver.runs.progress import Progress
from solver.types import Degradation, DegradationKind


@contextlib.contextmanager
def served(run: RunFolder, port: int) -> Iterator[None]:
    """Serve the run's live report during the block. Raises `UserError` if the port is not free."""
    from solver.report.serve import ReportServer

    try:
        server = ReportServer([run.path], port)
    except UserError:
        run.discard_if_blank()
        raise
    with server:
        RunConsole(quiet=False).print(f"live report: {server.url}", soft_wrap=True)
        yield


def run_problems(
    run: RunFolder,
    started_at: float,
    *,
    quiet: bool,
    end_by: float | None = None,
    hands: Hands | None = None,
) -> int:
    """Solve the run's unsolved problems, print the results and return the exit code.

    With `hands` they are solved on a Ray cluster, else in this process.

    `started_at` is when the command began, on the monotonic clock. At `end_by`, on the same clock, the
    process ends once the results are written, whatever is still to be closed. Raises `UserError` with one
    line that says what to do; a folder without a recorded event is then removed.
    """
    if run.torn_bytes:
        print_error(f"the journal's last line was torn ({run.torn_bytes} bytes) and is dropped")
    if run.finished:
        summary = summarize(run.history, run.problems)
        run.write_results(run.solved.values(), summary)
        print_results(run, summary)
        print_report(run, started_at)
    else:
        try:
            summary = asyncio.run(_run(run, started_at, quiet=quiet, end_by=end_by, hands=hands))
        except UserError as error:
            run.discard_if_blank()
            for note in getattr(error, "__notes__", ()):  # the end of a server's log
                for line in note.splitlines():
                    print_error(line)
            raise
        except asyncio.CancelledError:  # a second Ctrl-C
            print_error("interrupted; a run that had begun goes on with --resume and its folder")
            return EXIT_INTERRUPTED
    return _exit_code(summary)


def _exit_code(summary: Summary) -> int:
    return EXIT_INTERRUPTED if summary.interrupted else 0


async def _run(
    run: RunFolder,
    started_at: float,
    *,
    quiet: bool,
    end_by: float | None,
    hands: Hands | None,
) -> Summary:
    clock = MonotonicClock()
    stopping = asyncio.Event()
    history = run.history
    progress = Progress(
        run.problems,
        run.config,
        lambda: clock.now() - started_at,
        RunConsole(quiet=quiet),
        history,
    )

    def record(event: Event) -> None:
        run.journal.record(event)
        progress.show(event)

    solving = _Solving(run, started_at, stopping, progress, record)
    with (
        _stop_on_signals(stopping, progress.say) as end_on_signals,
        contextlib.ExitStack() as display,
    ):
        display.enter_context(progress)
        async with contextlib.AsyncExitStack() as opened:
            opener = solving.here() if hands is None else solving.on_cluster(hands)
            opening = asyncio.ensure_future(opened.enter_async_context(opener))
            if await _in_time(opening, run.config.budget, started_at):
                await _keep_tokenizer(run)
                answers = await opening.result()()
            else:
                answers = _give_up(run, record, lambda: clock.now() - started_at)
            # Answers given after a stop are not in the journal: a resume solves these problems.
            recorded = run.solved
            unrecorded = [answer for answer in answers if answer.problem_id not in recorded]
            for answer in unrecorded:
                history.apply(answer)
            record(RunEnded(t=clock.now() - started_at, interrupted=bool(unrecorded)))
            summary = summarize(history, run.problems)
            # Written and shown before the model and the kernels are closed, which may take long.
            run.write_results(answers, summary)
            display.close()
            print_results(run, summary)
            end_on_signals(_exit_code(summary))
            if end_by is not None:
                end_at(end_by, _exit_code(summary))
            await asyncio.to_thread(print_report, run, started_at)
            if not opening.done():
                if end_by is not None:
                    end_now(_exit_code(summary))
                opening.cancel()
                await asyncio.wait({opening})
            return summary


async def _in_time(opening: asyncio.Future[Any], budget: BudgetConfig, started_at: float) -> bool:
    """Wait for the services; False if the run's time is up before they are open. Raises what they raise."""
    left_s = None
    if budget.time_limit_s is not None:
        deadline = started_at + budget.time_limit_s - budget.closing_s
        left_s = max(0.0, deadline - MonotonicClock().now())
    try:
        await asyncio.wait({opening}, timeout=left_s)
    except asyncio.CancelledError:  # a second Ctrl-C
        opening.cancel()
        await asyncio.wait({opening})
        raise
    if opening.done():
        opening.result()
    return opening.done()


_Solve = Callable[[], Awaitable[list[Solved]]]  # every answer, in the order of the problems


@dataclass(frozen=True, slots=True)
class _Solving:
    """Opens what solves the run's problems; each gives a call that solves them."""

    run: RunFolder
    started_at: float
    stopping: asyncio.Event
    progress: Progress
    record: Callable[[Event], None]

    @contextlib.asynccontextmanager
    async def here(self) -> AsyncIterator[_Solve]:
        """One engine, of this process."""
        from solver.build import services as open_services

        async with open_services(
            self.run.config,
            record=self.record,
            started_at=self.started_at,
            stopping=self.stopping,
            say=self.progress.say,
            on_sampled=self.progress.sampled,
            log_folder=self.run.path,
        ) as services:

            async def solve() -> list[Solved]:
                from solver.solving.session import run_session

                engine = asdict(services.engine.capabilities)
                self._record_first(engine, services.sandboxes.isolation)
                return await run_session(self.run.problems, services, solved=self.run.solved)

            yield solve

    @contextlib.asynccontextmanager
    async def on_cluster(self, hands: Hands) -> AsyncIterator[_Solve]:
        """An engine in each actor of a Ray cluster."""
        from solver.distributed.cluster import crew
        from solver.distributed.session import Desk, run_session

        desk = Desk(
            self.run.config,
            MonotonicClock(),
            self.started_at,
            self.run.history,
            self.record,
            self._append,
            self.progress.sampled,
            self.stopping,
        )
        async with crew(self.run.config, hands, self.progress.say) as (actors, first):

            async def solve() -> list[Solved]:
                self.progress.members = actors.members
                self._record_first(first.engine or {}, first.isolation)
                return await run_session(self.run.problems, actors, desk, solved=self.run.solved)

            yield solve

    def _append(self, lines: bytes, events: Sequence[Event]) -> None:
        self.run.journal.append(lines)
        for event in events:
            self.progress.show(event)

    def _record_first(self, engine: dict[str, str | int], isolation: str) -> None:
        """What a process writes into the journal before anything else."""
        run, t = self.run, MonotonicClock().now() - self.started_at
        self.record(_first_event(run, t, engine, isolation))


def _first_event(
    run: RunFolder, t: float, engine: dict[str, str | int] | None = None, isolation: str = ""
) -> RunStarted | RunResumed:
    return first_event(
        t,
        run.config,
        resumed=run.history.start is not None,
        problem_ids=[problem.id for problem in run.problems],
        problems_sha256=run.problems_sha256,
        engine=engine,
        isolation=isolation,
    )


async def _keep_tokenizer(run: RunFolder) -> None:
    model = model_folder(run.config.model.path)
    if is_gguf(model):
        from solver.engines.tokenizer import keep_tokenizer

        await asyncio.to_thread(keep_tokenizer, model, run.path)


def _give_up(
    run: RunFolder, record: Callable[[Event], None], elapsed: Callable[[], float]
) -> list[Solved]:
    """The fallback for every problem that an earlier process did not solve: the model is still loading."""
    from solver.solving.state import not_begun

    answers = run.solved
    loading = Degradation(DegradationKind.OUT_OF_TIME, "no time: the model was still loading")
    record(_first_event(run, elapsed()))
    for problem in run.problems:
        if problem.id not in answers:
            answers[problem.id] = not_begun(problem, run.config, elapsed(), loading)
            record(answers[problem.id])
    return [answers[problem.id] for problem in run.problems]


@contextlib.contextmanager
def _stop_on_signals(
    stopping: asyncio.Event, say: Callable[[str], None]
) -> Iterator[Callable[[int], None]]:
    """The first Ctrl-C (or SIGTERM) asks the session to end, the second one ends it.

    What is yielded is called with an exit code once the answers are written: from then on the first one
    ends the process.
    """
    import signal

    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    written: int | None = None

    def end_on_signals(code: int) -> None:
        nonlocal written
        written = code

    def on_signal() -> None:
        if written is not None:
            print_error("ended: the answers are written, the report may not be")
            end_now(written)
        elif stopping.is_set():
            task.cancel()
        else:
            stopping.set()
            say("stopping: voting on the finished trajectories (Ctrl-C again to end at once)")

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        yield end_on_signals
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
