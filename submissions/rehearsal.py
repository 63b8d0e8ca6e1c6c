"""One timed run of a submission against a gateway, in a process tree that is ended afterwards.

The folder of a run has Kaggle's layout: `input/competitions/<slug>` holds test.csv (without answers) and
the competition's Python package; the submission runs in `working` and writes its file there.
"""

from __future__ import annotations

import csv
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from solver.cli.progress import WorkProgress
from solver.engines.vllm.process import free_port
from solver.errors import InputError
from solver.files.problems import load_problems
from submissions.competitions import Competition
from submissions.gateway import STARTUP_S, Gateway, GatewayError, Row, rows_of
from submissions.guard import end_tree, guarded
from submissions.realgateway import run_real_gateway
from submissions.rowlog import NAME, Entry, read_rows
from submissions.servers import GATEWAY_PORT, listening, rerun_environment
from submissions.settings import REHEARSAL, WORKER, Rehearsal

LOG = "submission.log"
_STANDIN = "from submissions.standin import {server}\n"


Prepare = Callable[[Path], AbstractContextManager[None]]


def as_it_is(working: Path) -> AbstractContextManager[None]:
    """Prepare nothing."""
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a rehearsal. `limit_s` is already divided by `speed`; `package` is Kaggle's, if any.

    Everything is ended `grace_s` after the limit. `prepare` surrounds the run; it gets the working folder.
    """

    problems: Path
    competition: Competition
    limit_s: float
    out: Path
    grace_s: float = 0.0
    prepare: Prepare = as_it_is
    speed: float = 1.0
    shuffled: bool = True
    with_answers: bool = False
    command: tuple[str, ...] = (sys.executable, "-m", "submissions.kaggle")
    package: Path | None = None
    faults: str = ""
    preset: str | None = None
    config: Path | None = None
    sets: tuple[str, ...] = ()
    worker: tuple[str, ...] = WORKER
    least_silence_s: float = 3.0


@dataclass(slots=True)
class Rehearsed:
    """A run's file or why there is none, the submission's log, and processes that still run."""

    number: int
    folder: Path
    submission: Path | None = None
    failure: str | None = None
    took_s: float = 0.0
    log: list[Entry] = field(default_factory=list)
    still_running: list[str] = field(default_factory=list)


def rehearse(plan: Plan, number: int, progress: WorkProgress | None = None) -> Rehearsed:
    """Run the submission once, at most for the limit and its grace; afterwards its process tree is ended.

    `progress` shows the rows that are answered, where the gateway is ours.
    """
    progress = progress or WorkProgress(quiet=True)
    run = Rehearsed(number, plan.out / f"run-{number}")
    rows = rows_of(
        plan.problems,
        with_answers=plan.with_answers,
        shuffle=number if plan.shuffled else None,
    )
    working = _make_folders(plan, run.folder)
    if plan.package is not None and listening(GATEWAY_PORT):
        raise InputError(
            f"another server listens on port {GATEWAY_PORT} and would be tested instead: end it first"
        )
    with plan.prepare(working):
        started_at = time.monotonic()
        rehearsal = _rehearsal(plan, run.folder, started_at, len(rows))
        process = _start(plan.command, working, rehearsal, run.folder / LOG)
        try:
            run.submission = _serve(plan, rows, working, rehearsal, process, progress)
        except GatewayError as error:
            run.failure = str(error)
        finally:
            run.took_s = time.monotonic() - started_at
            run.still_running = end_tree(process.pid)
            process.wait()
    run.log = list(read_rows(run.folder / NAME))
    return run


def _make_folders(plan: Plan, folder: Path) -> Path:
    files = folder / "input" / "competitions" / plan.competition.slug
    working = folder / "working"
    try:
        files.mkdir(parents=True)
        working.mkdir()
    except FileExistsError:
        raise InputError(f"{folder} holds a run already; give --out another folder") from None
    except OSError as error:
        raise InputError(f"cannot make {folder}: {error.strerror}") from None
    with (files / "test.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "problem"))
        writer.writerows((p.id, p.statement) for p in load_problems(plan.problems))
    package, _, module = plan.competition.module.partition(".")
    if plan.package is not None:
        (files / package).symlink_to(plan.package.absolute() / package)
    else:
        (files / package).mkdir()
        source = _STANDIN.format(server=plan.competition.server)
        (files / package / "__init__.py").touch()
        (files / package / f"{module}.py").write_text(source)
    return working


def _rehearsal(plan: Plan, folder: Path, started_at: float, num_problems: int) -> Rehearsal:
    return Rehearsal(
        input=(folder / "input").absolute(),
        started_at=started_at,
        limit_s=plan.limit_s,
        speed=plan.speed,
        num_problems=num_problems,
        port=free_port(),
        key=secrets.token_hex(16),
        row_log=(folder / NAME).absolute(),
        faults=plan.faults,
        preset=plan.preset,
        config=None if plan.config is None else plan.config.absolute(),
        sets=plan.sets,
        worker=plan.worker,
        least_silence_s=plan.least_silence_s,
    )


def _start(
    command: Sequence[str], working: Path, rehearsal: Rehearsal, log: Path
) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[1]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    environment = {
        **os.environ,
        **rerun_environment(),
        "PYTHONPATH": path,
        REHEARSAL: rehearsal.model_dump_json(),
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            guarded(command),
            cwd=working,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _serve(
    plan: Plan,
    rows: list[Row],
    working: Path,
    rehearsal: Rehearsal,
    process: subprocess.Popen[bytes],
    progress: WorkProgress,
) -> Path:
    until = rehearsal.started_at + plan.limit_s + plan.grace_s
    if plan.package is not None:
        progress.report("Kaggle's gateway asks")
        return run_real_gateway(plan.package, plan.competition, plan.shuffled, working, until)
    progress.report("rows", 0, len(rows))
    gateway = Gateway(
        rows,
        working,
        until,
        startup_s=STARTUP_S,
        alive=lambda: process.poll() is None,
        on_reply=lambda num: progress.report("rows", num, len(rows)),
    )
    return gateway.run(rehearsal.port, bytes.fromhex(rehearsal.key))
