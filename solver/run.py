"""`python -m solver.run problems.csv`: the command line.

It reads flags, checks what can be checked without a model, runs the session with a journal and a
live view beside it, writes the results and says how it went. Mistakes of the user are one line on
stderr and exit code 2. Heavy imports wait until everything else is known to be right.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from solver import scorers
from solver.clock import MonotonicClock, process_start
from solver.command_line import EXIT_INTERRUPTED, complain, quiet_libraries, run_app
from solver.config import SolverConfig
from solver.errors import ConfigError, InputError, UserError
from solver.events import Event, RunEnded, Solved
from solver.progress import Progress, printable
from solver.rundir import RunFolder, create_run, open_run
from solver.settings import load_config, parse_duration, parse_range, preset_names
from solver.summary import OUTSIDE, SUMMARIZED, Summary, summarize


class _Screen(Console):
    """Standard output, where a reader that goes away (`| head`) costs the words, not the run."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet, highlight=False, emoji=False, markup=False)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; without `argv` it began when the process did."""
    started_at = process_start() if argv is None else MonotonicClock().now()
    with quiet_libraries():
        return run_app(app, argv, obj=started_at, say=_complain)


@app.command()
def solve(
    context: typer.Context,
    problems: Annotated[
        Path | None,
        typer.Argument(
            readable=False,  # that is checked, and said, by whoever reads the file
            help="CSV or JSONL with 'id' and 'problem', and 'answer' if known",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(readable=False, help="answers file  [answers.csv]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the answers file")] = False,
    launch: Annotated[int | None, typer.Option(help="trajectories a problem")] = None,
    keep: Annotated[int | None, typer.Option(help="how many the check keeps")] = None,
    mark: Annotated[int | None, typer.Option(help="sampled tokens before the check")] = None,
    scorer: Annotated[str | None, typer.Option(help=f"one of {', '.join(scorers.NAMES)}")] = None,
    record: Annotated[
        str | None, typer.Option(help="full: finish all trajectories, for solver.replay")
    ] = None,
    time_limit: Annotated[str | None, typer.Option(help="whole run: 20s, 5m, 4h50m")] = None,
    seed: Annotated[int | None, typer.Option(help="of every random draw")] = None,
    model: Annotated[str | None, typer.Option(help="folder of a local model")] = None,
    engine: Annotated[str | None, typer.Option(help="transformers or vllm")] = None,
    server: Annotated[
        list[str] | None, typer.Option(help="URL of a running vLLM server; may be repeated")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N")] = None,
    preset: Annotated[str | None, typer.Option(help=", ".join(preset_names()))] = None,
    config: Annotated[Path | None, typer.Option(help="settings, .toml or .json")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="any setting: section.key=value")
    ] = None,
    answer_range: Annotated[str | None, typer.Option(help="such as 0:99999")] = None,
    modulus: Annotated[int | None, typer.Option(help="answers are taken modulo this")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="run folder  [runs/<id>]")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this run folder")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="show the report live, to this machine only")
    ] = False,
    port: Annotated[int, typer.Option(help="of --serve; 0 is any free one", min=0, max=65535)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="print the result only")] = False,
) -> int:
    """Solve competition problems: launch many trajectories, keep the promising ones, vote."""
    smallest, largest = parse_range(answer_range) if answer_range is not None else (None, None)
    flags = {
        "prune.launch": launch,
        "prune.keep": keep,
        "prune.mark": mark,
        "prune.scorer": scorer,
        "record": record,
        "budget.time_limit_s": parse_duration(time_limit) if time_limit is not None else None,
        "seed": seed,
        "model.path": _model_path(model),
        "model.engine": "vllm" if server else engine,
        "vllm.servers": tuple(server) if server else None,
        "model.device": device,
        "answer.minimum": smallest,
        "answer.maximum": largest,
        "answer.modulus": modulus,
    }
    if server and engine == "transformers":
        raise ConfigError("--server is for --engine vllm")
    given = {key: value for key, value in flags.items() if value is not None}

    def configured(base: SolverConfig | None = None) -> SolverConfig:
        return load_config(preset, config, sets or (), given, base=base)

    if resume is not None:
        if run_dir is not None:
            raise InputError("--resume names the run folder; leave out --run-dir")
        run = open_run(resume, configured, problems, output, force=force, on_failure=_complain)
    elif problems is not None:
        run = create_run(
            run_dir,
            configured(),
            problems,
            output or Path("answers.csv"),
            force=force,
            on_failure=_complain,
        )
    else:
        raise InputError("give a file of problems, for example examples/problems.csv")
    with contextlib.closing(run), _served(run, port) if serve else contextlib.nullcontext():
        return _carry_out(run, context.obj, quiet=quiet)


@contextlib.contextmanager
def _served(run: RunFolder, port: int) -> Iterator[None]:
    from solver.report.serve import ReportServer

    try:
        server = ReportServer([run.path], port)
    except UserError:
        run.discard_if_blank()
        raise
    with server:
        _Screen(quiet=False).print(f"live report: {server.url}", soft_wrap=True)
        yield


def _carry_out(run: RunFolder, started_at: float, *, quiet: bool) -> int:
    if run.torn_bytes:
        _complain(f"the journal's last line was torn ({run.torn_bytes} bytes) and is dropped")
    if run.finished:
        summary = summarize(run.events, run.problems)
        run.write_results(run.solved.values(), summary)
    else:
        try:
            summary = asyncio.run(_run(run, started_at, quiet=quiet))
        except UserError as error:
            run.discard_if_blank()
            for note in getattr(error, "__notes__", ()):  # the end of a server's log
                for line in note.splitlines():
                    _complain(line)
            raise
        except asyncio.CancelledError:  # a second Ctrl-C
            _complain("interrupted; a run that had begun goes on with --resume and its folder")
            return EXIT_INTERRUPTED
    _report(run, summary, started_at)
    return EXIT_INTERRUPTED if summary.interrupted else 0


async def _run(run: RunFolder, started_at: float, *, quiet: bool) -> Summary:
    from solver.build import services
    from solver.services import first_event
    from solver.session import run_session

    clock = MonotonicClock()
    stopping = asyncio.Event()
    events: list[Event] = [event for event in run.events if isinstance(event, SUMMARIZED)]
    solved = run.solved
    progress = Progress(
        run.problems,
        run.config,
        lambda: clock.now() - started_at,
        _Screen(quiet=quiet),
        solved,
    )

    def record(event: Event) -> None:
        run.journal.record(event)
        progress.show(event)
        if isinstance(event, SUMMARIZED):
            events.append(event)

    with progress, _stop_on_signals(stopping, progress.say):
        async with services(
            run.config,
            record=record,
            started_at=started_at,
            stopping=stopping,
            say=progress.say,
            log_folder=run.path,
        ) as tools:
            record(
                first_event(
                    tools,
                    resumed=bool(run.events),
                    problem_ids=[problem.id for problem in run.problems],
                    problems_sha256=run.problems_sha256,
                )
            )
            answers = await run_session(run.problems, tools, solved=solved)
            recorded = {event.problem_id for event in events if isinstance(event, Solved)}
            # Answers given after a stop are not in the journal: a resume solves these problems.
            unrecorded = [answer for answer in answers if answer.problem_id not in recorded]
            record(RunEnded(t=tools.elapsed(), interrupted=bool(unrecorded)))
            summary = summarize([*events[:-1], *unrecorded, events[-1]], run.problems)
            # Written before the model and the kernels are closed, which may take its time.
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
            say("stopping: voting on what is there (Ctrl-C again to leave at once)")

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _report(run: RunFolder, summary: Summary, started_at: float) -> None:
    from solver.report.afterwards import report_line

    screen = _Screen(quiet=False)
    for line in _result_lines(run, summary):
        screen.print(line, soft_wrap=True)
    limit = run.config.budget.time_limit_s
    deadline = inf if limit is None else started_at + limit
    line = report_line(run.path, deadline - MonotonicClock().now())
    screen.print(printable(line, 500), soft_wrap=True)


def _result_lines(run: RunFolder, summary: Summary) -> Iterator[str]:
    if summary.accuracy is not None and summary.accuracy_interval is not None:
        low, high = summary.accuracy_interval
        yield (
            f"score: {summary.num_correct} of {summary.num_graded} right"
            f" ({summary.accuracy:.1%}, 95% interval {low:.1%} to {high:.1%})"
        )
    yield (
        f"tokens: {summary.sampled_tokens:,} sampled in {summary.elapsed_s:.1f} s"
        f" ({summary.tokens_per_s:,.0f} a second)"
    )
    if summary.degraded:
        yield f"degraded: {len(summary.degraded)} of {summary.num_problems} answers"
    yield f"isolation: {summary.isolation}"
    yield f"run folder: {run.path}"
    yield f"answers: {run.output}"
    if any(
        reason.startswith(OUTSIDE) for reasons in summary.degraded.values() for reason in reasons
    ):
        yield "some problems are outside of what the embedded model knows: use --model PATH"
    if summary.interrupted:
        yield f"interrupted: go on with --resume {run.path}"


def _model_path(model: str | None) -> str | None:
    # Absolute, so that a resume from another folder finds the same model.
    return model if model in (None, "embedded") else str(Path(model).absolute())


def _complain(message: str) -> None:
    complain(printable(message, 500))


if __name__ == "__main__":
    sys.exit(main())
