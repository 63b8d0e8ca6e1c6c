"""`python -m submissions.matrix problems.csv`: rehearse every fault that a submission must get over.

Each case is a short run of `submissions.rehearsal`, with Kaggle's own gateway or the stand-in. It holds if
there is a valid file with every row, each row that is no vote has a reason, the fault was really met and
nothing is left running. Exit code 1 if a case does not hold, 2 for mistakes of the user.
"""

from __future__ import annotations

import csv
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from solver.cli.app import run_app
from solver.config import SolverConfig
from solver.errors import ConfigError
from solver.files.problems import load_problems
from solver.runs.settings import load_config
from solver.types import Problem
from submissions.competitions import competition
from submissions.dryrun import gateway_package, new_folder, run_faults
from submissions.faults import random_faults
from submissions.kaggle import FOLDER
from submissions.rehearsal import Plan, Prepare, Rehearsed, as_it_is, rehearse
from submissions.runfolder import JOURNAL
from submissions.timeline import timeline_of

ROWS = 6
MIXES, FAULTS_IN_A_MIX = 20, 4
DISK_BYTES = 64 << 20  # of a small disk: more than what logs leave free
OWN_MOUNTS = ("unshare", "-rm")  # runs a command that may mount a small disk for itself
_LEFT_AT_THE_START = 2 << 20  # bytes of a disk that is full before the submission starts
_GRACE_S = 60.0  # a run that is not over so long after its limit hangs
_LONG = 999_990  # characters, of the 1,000,000 bytes that a statement may have

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, or a surrounding, that costs no row.

    `prepare` surrounds the run and gets its working folder, on a small disk with `small_disk`. `needs` is the
    part that only some settings have: kernels or server. A killed notebook leaves no file (`file` is false).
    """

    name: str
    faults: str = ""
    prepare: Prepare = as_it_is
    limit_s: float = 90.0
    small_disk: bool = False
    needs: str = ""
    strange: bool = False
    file: bool = True
    surely: bool = True  # whether each of its faults is surely met


@contextmanager
def _filled(working: Path) -> Iterator[None]:
    with (working / "filler").open("wb") as file:
        size = shutil.disk_usage(working).free - _LEFT_AT_THE_START
        os.posix_fallocate(file.fileno(), 0, size)
    yield


@contextmanager
def _leftovers(working: Path) -> Iterator[None]:
    """Packages of another torch, which do not load, where Python looks first."""
    place = working.parent / "leftovers"
    for name in ("torchvision", "torchaudio"):
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").write_text("raise OSError('undefined symbol: torch')\n")
        (place / f"{name}-0.1.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n"
        (place / f"{name}-0.1.dist-info" / "METADATA").write_text(metadata)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(place), before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _locked(working: Path) -> Iterator[None]:
    (working / FOLDER).mkdir()
    with (working / FOLDER / JOURNAL).open("ab") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        yield


@contextmanager
def _read_only(working: Path) -> Iterator[None]:
    if os.geteuid() == 0:  # who may write everywhere but in places like this
        (working / FOLDER).symlink_to("/proc/sys")
    else:
        (working / FOLDER).mkdir(mode=0o555)
    yield


@contextmanager
def _other_run(working: Path) -> Iterator[None]:
    (working / FOLDER).mkdir()
    other = SolverConfig(seed=987_654)
    (working / FOLDER / "config.json").write_text(other.model_dump_json())
    yield


def _mix(seed: int) -> Case:
    faults = ",".join(map(str, random_faults(seed, ROWS, FAULTS_IN_A_MIX)))
    return Case(f"mix {seed}", faults, limit_s=120.0, surely=False)


CASES = (
    Case("nothing is wrong"),
    Case("worker killed", "crash@2"),
    Case("worker frozen", "freeze@2"),
    Case("guard killed", "kill-guard@2"),
    Case("guard frozen", "freeze-guard@2,crash@4"),
    Case("zygote killed", "kill-zygote@2", needs="kernels"),
    Case("zygote frozen", "freeze-zygote@2", needs="kernels"),
    Case("server killed", "kill-server@2", needs="server", limit_s=300.0),
    Case("server frozen", "freeze-server@2", needs="server", limit_s=300.0),
    Case("notebook killed", "kill-notebook@2", file=False),
    Case("notebook frozen", "freeze-notebook@2"),
    Case("disk full before the start", prepare=_filled, small_disk=True),
    Case("disk full at the first row", "full-disk@1:begin", small_disk=True),
    Case("disk full at a check", "full-disk@3", small_disk=True),
    Case("disk full at the last vote", f"full-disk@{ROWS}:vote", small_disk=True),
    Case("disk full and the worker killed", "full-disk@2,crash@3", small_disk=True),
    Case("leftovers of another torch", prepare=_leftovers),
    Case("run folder locked", prepare=_locked),
    Case("run folder read-only", prepare=_read_only),
    Case("run folder of another run", prepare=_other_run),
    Case("limit of 2 s", limit_s=2.0),
    Case("limit of 25 s", limit_s=25.0),
    Case("limit of 120 s", limit_s=120.0),
    Case("statements of 1 MB and of nothing", strange=True),
    *(_mix(seed) for seed in range(1, MIXES + 1)),
)


def run_case(case: Case, plan: Plan) -> tuple[Rehearsed, list[str]]:
    """Rehearse a case as `plan` says, and what does not hold of it; empty if it gets over the fault."""
    out = plan.out / case.name.replace(" ", "-")
    out.mkdir(parents=True, exist_ok=True)
    problems = list(islice(load_problems(plan.problems), ROWS))
    file = _problems_file(out / "problems.csv", problems, strange=case.strange)
    prepare = _on_a_small_disk(case.prepare) if case.small_disk else case.prepare
    changed = replace(
        plan,
        problems=file,
        out=out,
        faults=case.faults,
        limit_s=case.limit_s,
        grace_s=_GRACE_S,
        prepare=prepare,
        shuffled=False,
    )
    run = rehearse(changed, 1)
    return run, _judge(case, run, load_problems(file), changed)


def _judge(case: Case, run: Rehearsed, problems: Sequence[Problem], plan: Plan) -> list[str]:
    faults = run_faults(run, problems, plan.competition)
    if not case.file:
        faults = [f"still running: {process}" for process in run.still_running]
        if run.failure is None:
            faults.append("no failure is reported")
    met = {path.name.removeprefix("injected-") for path in run.folder.rglob("injected-*")}
    logs = [path.read_text(errors="replace") for path in run.folder.rglob("worker.log")]
    wanted = [text for text in case.faults.split(",") if text and case.surely]
    missing = [text for text in wanted if not any(name.startswith(text) for name in met)]
    faults += [f"{text} was not met" for text in missing]
    lines = "\n".join(logs).splitlines()
    return faults + [line for line in lines if line.startswith("not injected: ") and case.surely]


def _problems_file(path: Path, problems: Sequence[Problem], *, strange: bool) -> Path:
    rows = [(problem.id, problem.statement, problem.answer) for problem in problems]
    if strange:
        rows += [("empty", "", None), ("long", "x" * _LONG + " 44?", None)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "problem", "answer"))
        writer.writerows(rows)
    return path


def _on_a_small_disk(prepare: Prepare) -> Prepare:
    """The same with the working folder on a disk of its own, in the mounts of `OWN_MOUNTS`."""

    @contextmanager
    def mounted(working: Path) -> Iterator[None]:
        mount = ("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(working))
        subprocess.run(mount, check=True)
        with prepare(working):
            yield

    return mounted


@app.command()
def matrix(
    problems: Annotated[
        Path, typer.Argument(help=f"CSV or JSONL as for the solver; the first {ROWS} are used")
    ] = Path("examples/problems.csv"),
    gateway: Annotated[
        Path | None, typer.Option(help="folder that holds Kaggle's own kaggle_evaluation")
    ] = None,
    only: Annotated[str, typer.Option(help="cases whose name holds this")] = "",
    preset: Annotated[str | None, typer.Option(help="preset of the solver")] = None,
    config: Annotated[Path | None, typer.Option(help="settings, .toml or .json")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="any setting: section.key=value")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder  [runs/matrix-<id>]")] = None,
    own_mounts: Annotated[bool, typer.Option("--own-mounts", hidden=True)] = False,
) -> int:
    """Rehearse every fault that a submission must get over; each case starts the solver anew."""
    load_problems(problems)
    settings = load_config(preset, config, sets or ())
    cases = [case for case in CASES if only in case.name]
    if not cases:
        raise ConfigError(f"--only {only}: no case is called so; there are {_names()}")
    plan = Plan(
        problems=problems,
        competition=competition("aimo3"),
        limit_s=0.0,
        out=out or new_folder("matrix"),
        package=gateway_package(gateway),
        preset=preset,
        config=config,
        sets=tuple(sets or ()),
    )
    num_held = num_skipped = 0
    for case in cases:
        if why := _why_skipped(case, settings):
            num_skipped += 1
            print(f"skipped  {case.name}: {why}", flush=True)
        elif case.small_disk and not own_mounts:
            num_held += _in_own_mounts(case, plan)
        else:
            num_held += _show(case, plan)
    print(f"{num_held} of {len(cases) - num_skipped} cases hold; folder: {plan.out}", flush=True)
    return 0 if num_held == len(cases) - num_skipped else 1


def _show(case: Case, plan: Plan) -> bool:
    run, faults = run_case(case, plan)
    timeline = timeline_of(run.log)
    rows = f"{len(timeline.answered)} rows, {timeline.degraded} degraded, {run.took_s:.1f} s"
    print(f"{'FAULT' if faults else 'holds'}    {case.name}: {rows}", flush=True)
    for fault in faults:
        print(f"         {fault}", flush=True)
    return not faults


def _in_own_mounts(case: Case, plan: Plan) -> bool:
    """The same in a process that may mount, whose last line is not shown."""
    command = [*OWN_MOUNTS, sys.executable, "-m", "submissions.matrix", str(plan.problems)]
    command += ["--only", case.name, "--own-mounts", "--out", str(plan.out)]
    command += ["--gateway", str(plan.package)] if plan.package else []
    command += ["--preset", plan.preset] if plan.preset else []
    command += ["--config", str(plan.config)] if plan.config else []
    command += [word for text in plan.sets for word in ("--set", text)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()[:-1] or [f"FAULT    {case.name}: {done.stderr.strip()}"]
    print("\n".join(lines), flush=True)
    return done.returncode == 0


def _why_skipped(case: Case, settings: SolverConfig) -> str | None:
    if case.needs == "server" and settings.model.engine != "vllm":
        return "these settings have no server"
    if case.small_disk and not can_mount():
        return "a small disk cannot be mounted here"
    return None


@cache
def can_mount() -> bool:
    """Whether `OWN_MOUNTS` works on this machine."""
    if shutil.which(OWN_MOUNTS[0]) is None:
        return False
    mount = ("mount", "-t", "tmpfs", "none", "/tmp")
    return subprocess.run((*OWN_MOUNTS, *mount), capture_output=True, check=False).returncode == 0


def _names() -> str:
    return ", ".join(case.name for case in CASES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    said = "interrupted; nothing of the submission is left running"
    return run_app(app, argv, interrupted=said)


if __name__ == "__main__":
    sys.exit(main())
