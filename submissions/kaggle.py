"""The submission: a notebook calls `serve()`, and `python -m submissions.kaggle` does the same.

It listens at once, while the model loads in another process, and answers every row in time. The time
limit counts from the start of this process, so that the notebook's installation is included.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from solver.cli.app import run_app
from solver.config import SolverConfig
from solver.errors import UserError
from solver.files.whole import write_whole
from solver.runs.settings import differing_key
from submissions.child import Child
from submissions.competitions import COMPETITIONS
from submissions.frames import frame_library
from submissions.paths import resolve
from submissions.predict import Answerer
from submissions.rowlog import NAME, RowLog
from submissions.servers import (
    GATEWAY_PORT,
    competition_folder,
    count_problems,
    is_rerun,
    iterate,
    listening,
    load_module,
    test_file,
)
from submissions.settings import Submission, resolve_submission
from submissions.supervisor import Spawn, Supervisor

FOLDER = Path("stop-solver-run")
TIME_LIMIT = "4h50m"


def serve(
    competition: str = "aimo3",
    *,
    preset: str | None = None,
    config: Path | None = None,
    sets: Sequence[str] = (),
    time_limit: str = TIME_LIMIT,
    num_problems: int | None = None,
    folder: Path = FOLDER,
    started_at: float | None = None,
) -> None:
    """Serve the competition until its gateway has all rows; in a rerun this never returns.

    `preset`, `config` and `sets` are the solver's settings as on its command line; a model or adapter
    folder that does not exist is looked for by its name among the attached ones. `time_limit` counts
    from `started_at` (Unix seconds; default: the start of this process). `num_problems` is the number
    of rows to expect where test.csv does not show it. Raises `UserError` for settings that cannot be used.
    """
    submission = resolve_submission(
        competition,
        preset=preset,
        config=config,
        sets=tuple(sets),
        time_limit=time_limit,
        num_problems=num_problems,
        folder=folder,
        started_at=None if started_at is None else time.monotonic() - (time.time() - started_at),
    )
    frame_library()
    module = load_module(submission.competition, submission.input)
    files = competition_folder(submission.competition, submission.input)
    solver_config, missing = _resolved(submission)
    run_folder = _run_folder(submission.folder, solver_config)
    log = RowLog(run_folder / NAME, submission.started_at)
    rows = count_problems(test_file(files), submission.num_problems)
    log.note(f"competition: {files}; {rows} problems; run folder: {run_folder}")
    supervisor = Supervisor(_spawner(submission, run_folder), log.note, submission.limits)
    if missing is None:
        log.note(f"model: {solver_config.model.path}; adapter: {solver_config.prune.adapter}")
        supervisor.start()
    else:
        log.note(f"WARNING: every answer will be the fallback: {missing}")
        supervisor.give_up(missing)
    answerer = Answerer(solver_config, submission.started_at, rows, supervisor, log)
    try:
        if submission.competition.server is None:
            iterate(module, answerer.answer)
        else:
            _serve_rows(getattr(module, submission.competition.server), answerer, files, log)
    finally:
        supervisor.close()


def _serve_rows(server_class: type, answerer: Answerer, files: Path | None, log: RowLog) -> None:
    if listening(GATEWAY_PORT):
        log.note(
            f"WARNING: another process listens on port {GATEWAY_PORT}, perhaps an earlier submission:"
            " a gateway would connect to that one; end it and start again"
        )
    server = server_class(answerer.predict())
    log.note("listening")
    if is_rerun():
        server.serve()
    else:
        file = test_file(files)
        server.run_local_gateway((str(file),) if file is not None else None)


def _resolved(submission: Submission) -> tuple[SolverConfig, str | None]:
    """The config with its folders on this machine, and why the solver cannot run if one is missing."""
    try:
        return resolve(submission.config, submission.input), None
    except UserError as error:
        return submission.config, str(error)


def _spawner(submission: Submission, folder: Path) -> Spawn:
    command = (*submission.worker, "--folder", str(folder))
    command = (*command, "--started-at", repr(submission.started_at))
    return partial(Child, command, folder / "worker.log")


def _run_folder(folder: Path, config: SolverConfig) -> Path:
    """`folder`, or the same name with a number if it already holds a run with another config."""
    for number in count(1):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        kept = candidate / "config.json"
        try:
            if kept.exists():
                before = SolverConfig.model_validate_json(kept.read_bytes())
                if differing_key(before, config) is None:
                    return candidate
                continue
            candidate.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError):
            continue
        write_whole(kept, config.model_dump_json(indent=2) + "\n")
        return candidate
    raise AssertionError("unreachable: count() does not end")


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def submit(
    competition: Annotated[str, typer.Argument(help=", ".join(COMPETITIONS))] = "aimo3",
    preset: Annotated[str | None, typer.Option(help="preset of the solver")] = None,
    config: Annotated[Path | None, typer.Option(help="settings, .toml or .json")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="any setting: section.key=value")
    ] = None,
    time_limit: Annotated[str, typer.Option(help="from the start of this process")] = TIME_LIMIT,
    problems: Annotated[int | None, typer.Option(help="expected, if test.csv is no help")] = None,
    folder: Annotated[Path, typer.Option(help="run folder")] = FOLDER,
) -> None:
    """Serve a competition's gateway."""
    serve(
        competition,
        preset=preset,
        config=config,
        sets=sets or (),
        time_limit=time_limit,
        num_problems=problems,
        folder=folder,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; mistakes of the user are one line and exit code 2."""
    return run_app(app, argv)


if __name__ == "__main__":
    sys.exit(main())
