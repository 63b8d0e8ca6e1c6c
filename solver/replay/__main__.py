"""`python -m solver.replay RUN...`: the results that other policies would have had, without a model.

Mistakes of the user are one line on stderr and exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from solver.cli.app import print_error, run_app
from solver.cli.progress import WorkProgress
from solver.cli.python import python
from solver.errors import ConfigError, InputError, first_fault
from solver.files.tables import duration
from solver.files.whole import write_whole
from solver.journal.recorded_run import RecordedRun, load
from solver.policy.statistics import Interval
from solver.replay.grid import KEYS, grid, parse_sweep
from solver.replay.policy import Policy
from solver.replay.problem import require_full
from solver.replay.sections import counterfactual_lines
from solver.replay.sweep import DRAWS, Replay, Row, sweep
from solver.replay.table import speeds_lines, sweep_table

EXAMPLE = (
    "Example: python -m solver.replay runs/full --sweep launch=8,16,24 keep=4,8 mark=32"
    " scorer=stop,confidence,none vote=majority,weighted stop=off,posterior limit=1h"
)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    return run_app(app, argv, prog=prog, interrupted="error: interrupted")


@app.command(epilog=EXAMPLE)
def replay_command(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN... [KEY=VALUES]...", help="run folders of --record full"),
    ],
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", help=f"values to try, such as launch=8,16; keys: {', '.join(KEYS)}"
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, help="random subsets of the recorded trajectories")
    ] = DRAWS,
    seed: Annotated[int, typer.Option(help="of subsets and intervals")] = 0,
    counterfactuals: Annotated[
        bool, typer.Option("--counterfactuals", help="what the dropped would have answered, ...")
    ] = False,
    config_for: Annotated[
        int | None,
        typer.Option(min=1, help="write the config of this row, for solver.run --config"),
    ] = None,
    out: Annotated[Path, typer.Option(help="where that config goes")] = Path("policy.json"),
) -> None:
    """Replay policies on full recordings: votes are exact, the clock is fitted to the journal."""
    folders, items = _told_apart(runs, sweeps or [])
    values = parse_sweep(items)
    with WorkProgress(quiet=False) as progress:
        progress.report("reading the runs")
        recordings = _load(folders)
        replay = Replay(recordings)
    own = Policy.of(recordings[0].config)
    for line in _heading(replay):
        typer.echo(line)
    if counterfactuals:
        unlimited = replace(own, limit_s=None)
        _check([unlimited], recordings)
        for line in counterfactual_lines(replay, unlimited):
            typer.echo(line)
        if not items:
            return
        typer.echo("")
    found = grid(values, own)
    _check(found.policies, recordings)
    rows = _play(replay, found.policies, draws, seed)
    for line in sweep_table(rows):
        typer.echo(line)
    for line in _footing(rows, found.left_out):
        typer.echo(line)
    if config_for is not None:
        _write_config(rows, config_for, recordings[0], out)


def _told_apart(runs: Sequence[str], items: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Folders, and sweep items: after `--sweep` several may follow, which look like arguments."""
    further = [text for text in runs if "=" in text and not Path(text).exists()]
    if further and not items:
        raise ConfigError(f"put --sweep before {further[0]}")
    folders = [Path(text) for text in runs if text not in further]
    if not folders:
        raise InputError("give the folder of a run that was made with --record full")
    return folders, [*items, *further]


def _load(folders: Sequence[Path]) -> list[RecordedRun]:
    recordings = [load(folder) for folder in folders]
    for recording in recordings:
        require_full(recording)
        if recording.torn_bytes:
            print_error(
                f"the last line of {recording.path / 'journal.jsonl'} was torn"
                f" ({recording.torn_bytes} bytes) and is left out"
            )
        if recording.skipped:
            print_error(f"{recording.skipped} events of {recording.path} are of a newer version")
    return recordings


def _check(policies: Sequence[Policy], recordings: Sequence[RecordedRun]) -> None:
    for recording, policy in product(recordings, policies):
        try:
            policy.config(recording.config)
        except ValidationError as error:
            raise ConfigError(f"{recording.path}: {first_fault(error)}") from None


def _play(replay: Replay, policies: Sequence[Policy], draws: int, seed: int) -> list[Row]:
    with WorkProgress(quiet=False) as progress:
        return sweep(
            replay, policies, draws, seed,
            lambda done: progress.report("policies", done, len(policies)),
        )  # fmt: skip


def _heading(replay: Replay) -> list[str]:
    problems = [problem for problems in replay.problems for problem in problems]
    ids = {problem.id for problem in problems}
    return [
        f"{len(ids)} problems, {replay.num_launched} trajectories each, of"
        f" {', '.join(str(recording.path) for recording in replay.recordings)}",
        *speeds_lines(replay.speeds),
        "",
    ]


def _footing(rows: Sequence[Row], left_out: Mapping[str, int]) -> list[str]:
    lines = [
        "",
        "* nothing is as accurate and faster, or more accurate and as fast. Intervals: 95 %,"
        f" problems and up to {max(row.num_draws for row in rows)} subsets of trajectories drawn anew.",
    ]
    cut = [row for row in rows if row.in_time.value < 1]
    if cut:
        lines.append(
            "Under a limit, a trajectory that is cut has no vote here, where a run would force an"
            " answer: accuracy is a lower bound."
        )
    lines += [f"{count} combinations were left out: {why}." for why, count in left_out.items()]
    return lines


def _write_config(rows: Sequence[Row], number: int, recording: RecordedRun, out: Path) -> None:
    if number > len(rows):
        raise ConfigError(f"--config-for {number}: the table has {len(rows)} rows")
    if out.exists():
        raise InputError(f"{out} exists; give --out another name")
    policy = rows[number - 1].policy
    write_whole(out, policy.config(recording.config).model_dump_json(indent=2) + "\n")
    expected: Interval = rows[number - 1].seconds
    typer.echo(
        f"wrote row {number} to {out}: {python()} -m solver.run PROBLEMS --config {out}"
        f" (about {duration(expected.value)} for these problems)"
    )


if __name__ == "__main__":
    sys.exit(main())
