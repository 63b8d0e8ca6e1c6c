"""Runs the session of a run folder, with its journal, signal handling and live view."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from solver.cli.app import EXIT_INTERRUPTED
from solver.clock import MonotonicClock
from solver.errors import UserError
from solver.files.gguf import is_gguf
from solver.journal.events import Event, RunEnded
from solver.journal.summary import Summary, summarize
from solver.runs.console import RunConsole, print_error, print_results
from solver.runs.folder import RunFolder
from solver.runs.progress import Progress


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


def run_problems(run: RunFolder, started_at: float, *, quiet: bool) -> int:
    """Solve the run's unsolved problems, print the results and return the exit code.

    `started_at` is when the command began, on the monotonic clock. Raises `UserError` with one
    line that says what to do; a folder without a recorded event is then removed.
    """
    if run.torn_bytes:
        print_error(f"the journal's last line was torn ({run.torn_bytes} bytes) and is dropped")
    if run.finished:
        summary = summarize(run.history, run.problems)
        run.write_results(run.solved.values(), summary)
    else:
        try:
            summary = asyncio.run(_run(run, started_at, quiet=quiet))
        except UserError as error:
            run.discard_if_blank()
            for note in getattr(error, "__notes__", ()):  # the end of a server's log
                for line in note.splitlines():
                    print_error(line)
            raise
        except asyncio.CancelledError:  # a second Ctrl-C
            print_error("interrupted; a run that had begun goes on with --resume and its folder")
            return EXIT_INTERRUPTED
    print_results(run, summary, started_at)
    return EXIT_INTERRUPTED if summary.interrupted else 0


async def _run(run: RunFolder, started_at: float, *, quiet: bool) -> Summary:
    from solver.build import services as open_services
    from solver.solving.services import first_event
    from solver.solving.session import run_session

    clock = MonotonicClock()
    stopping = asyncio.Event()
    solved, history = run.solved, run.history
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

    with progress, _stop_on_signals(stopping, progress.say):
        async with open_services(
            run.config,
            record=record,
            started_at=started_at,
            stopping=stopping,
            say=progress.say,
            on_sampled=progress.sampled,
            log_folder=run.path,
        ) as services:
            if is_gguf(Path(run.config.model.path)):
                from solver.engines.tokenizer import keep_tokenizer

                await asyncio.to_thread(keep_tokenizer, Path(run.config.model.path), run.path)
            record(
                first_event(
                    services,
                    resumed=history.start is not None,
                    problem_ids=[problem.id for problem in run.problems],
                    problems_sha256=run.problems_sha256,
                )
            )
            answers = await run_session(run.problems, services, solved=solved)
            # Answers given after a stop are not in the journal: a resume solves these problems.
            recorded = run.solved
            unrecorded = [answer for answer in answers if answer.problem_id not in recorded]
            for answer in unrecorded:
                history.apply(answer)
            record(RunEnded(t=services.elapsed(), interrupted=bool(unrecorded)))
            summary = summarize(history, run.problems)
            # Written before the model and the kernels are closed, which may take long.
            run.write_results(answers, summary)
            return summary


@contextlib.contextmanager
def _stop_on_signals(stopping: asyncio.Event, say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) asks the session to end, the second one ends it."""
    import signal

    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def on_signal() -> None:
        if stopping.is_set():
            task.cancel()
        else:
            stopping.set()
            say("stopping: voting on the finished trajectories (Ctrl-C again to end at once)")

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
