"""The submission: a notebook calls `serve()`, and `python -m submissions.kaggle` does the same.

It listens at once, while the model loads in another process, and answers every row in time. The time
limit counts from the start of this process, so that the notebook's installation is included.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from solver.cli.app import run_app
from solver.config import SolverConfig
from solver.errors import InputError, UserError
from submissions.child import Child
from submissions.competitions import COMPETITIONS, competition
from submissions.frames import frame_library
from submissions.paths import resolve
from submissions.predict import Answerer
from submissions.rowlog import NAME, RowLog
from submissions.runfolder import open_run_folder, release_space, reserve_space
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
    of rows to expect where test.csv does not show it.

    When the notebook is saved, `UserError` is raised for whatever would make every answer the fallback:
    settings that cannot be used, a model that is not attached, a solver that does not start. In a rerun
    all rows are answered instead, and the log says why.
    """
    started = None if started_at is None else time.monotonic() - (time.time() - started_at)
    submission, wrong = _settings(
        competition,
        preset=preset,
        config=config,
        sets=tuple(sets),
        time_limit=time_limit,
        num_problems=num_problems,
        folder=folder,
        started_at=started,
    )
    frame_library()
    module = load_module(submission.competition, submission.input)
    files = competition_folder(submission.competition, submission.input)
    solver_config, missing = _resolved(submission)
    missing = wrong or missing
    run_folder, passed = open_run_folder(submission.folder, solver_config)
    logs = (run_folder and run_folder / NAME, submission.row_log)
    log = RowLog(tuple(filter(None, logs)), submission.started_at)
    rows = count_problems(test_file(files), submission.num_problems)
    log.note(f"competition: {files}; {rows} problems; run folder: {run_folder or 'none'}")
    for reason in passed:
        log.note(f"passed over {reason}")
    supervisor = Supervisor(_spawner(submission, run_folder), log.note, submission.limits)
    if run_folder is not None:
        reserve_space(run_folder)
    else:
        missing = missing or "there is no folder that can be written"
    if missing is None:
        log.note(f"model: {solver_config.model.path}; adapter: {solver_config.prune.adapter}")
        supervisor.start()
    else:
        _complain(missing)
        log.note(f"WARNING: every answer will be the fallback: {missing}")
        supervisor.give_up(missing)
    answerer = Answerer(
        solver_config,
        submission.started_at,
        rows,
        supervisor,
        log,
        row_limit_s=submission.row_limit_s,
        on_answer=partial(release_space, run_folder or submission.folder),
    )
    try:
        if submission.competition.server is None:
            iterate(module, answerer.answer)
        else:
            _serve_rows(getattr(module, submission.competition.server), answerer, files, log)
    finally:
        supervisor.close()
    if answerer.all_fallback:
        why = supervisor.given_up or "see the lines above"
        _complain(f"every answer is the fallback: {why}")


def _complain(what: str) -> None:
    """Raise `InputError` where that helps: when the notebook is saved. In a rerun rows must be answered."""
    if not is_rerun():
        raise InputError(what)


def _settings(name: str, **given: Any) -> tuple[Submission, str | None]:
    """The submission; in a rerun one with the default settings and what is wrong, if those given are."""
    try:
        return resolve_submission(name, **given), None
    except (UserError, OSError) as error:
        _complain(str(error))
        competition(name)  # an unknown one cannot be served
        given["time_limit"] = TIME_LIMIT
        return resolve_submission(name, **given, plain=True), str(error)


def _serve_rows(server_class: type, answerer: Answerer, files: Path | None, log: RowLog) -> None:
    if listening(GATEWAY_PORT):
        foreign = (
            f"another process listens on port {GATEWAY_PORT}, perhaps an earlier submission:"
            " a gateway would connect to that one; end it and start again"
        )
        _complain(foreign)
        log.note(f"WARNING: {foreign}")
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
    except (UserError, OSError) as error:
        return submission.config, str(error)


def _spawner(submission: Submission, folder: Path | None) -> Spawn:
    folder = folder or submission.folder  # where there is none, nothing is started
    command = (*submission.worker, "--folder", str(folder))
    command = (*command, "--started-at", repr(submission.started_at))
    return partial(Child, command, folder / "worker.log")


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
