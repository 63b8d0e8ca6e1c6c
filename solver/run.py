"""`python -m solver.run problems.csv`: the command line.

It reads flags, checks what can be checked without a model, opens the run's folder and has the run
carried out in it. Mistakes of the user are one line on stderr and exit code 2. Heavy imports wait
until everything else is known to be right.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from solver.cli.app import quiet_libraries, run_app
from solver.clock import MonotonicClock, process_start
from solver.config import SolverConfig
from solver.distributed.hands import Hands, with_address
from solver.errors import ConfigError, InputError
from solver.files.paths import user_path
from solver.files.problems import EVERY_PROBLEM, Selection
from solver.files.shards import Shard
from solver.runs.console import print_error
from solver.runs.ending import end_now
from solver.runs.folder import create_run, open_run
from solver.runs.run import run_problems, served
from solver.runs.settings import (
    load_config,
    parse_duration,
    parse_range,
    preset_names,
    refuse_unread,
)
from solver.scorers import scorer_names

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command and return its exit code.

    Its time limit counts from the start of the process, or from now for a call with `argv` and no `prog`.
    """
    is_process = argv is None or prog is not None
    call = _Call(process_start() if is_process else MonotonicClock().now(), is_process)
    with quiet_libraries():
        code = run_app(app, with_address(argv), prog=prog, obj=call, say=print_error)
    if call.end_by is not None:
        end_now(code)
    return code


@dataclass
class _Call:
    """When the command began (monotonic seconds), and when its process has to end, if it has to."""

    started_at: float
    is_process: bool
    end_by: float | None = None

    def limit(self, seconds: float | None) -> None:
        """The run's time limit; a caller in Python goes on after it."""
        if self.is_process and seconds is not None:
            self.end_by = self.started_at + seconds


@app.command()
def solve(
    context: typer.Context,
    problems: Annotated[
        Path | None,
        typer.Argument(
            readable=False,  # that is checked, and said, by whoever reads the file
            help="CSV, JSONL, JSON or Parquet with 'problem', and 'id' and 'answer' if known",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(readable=False, help="answers file  [answers.csv, answers.i-of-n.csv]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the answers file")] = False,
    limit: Annotated[int | None, typer.Option(help="solve the first so many", min=1)] = None,
    shuffle: Annotated[int | None, typer.Option(help="seed of a random order")] = None,
    ids: Annotated[str | None, typer.Option(help="solve these only: a,b,c")] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: solve this part of them; stop-solver merge joins them")
    ] = None,
    launch: Annotated[int | None, typer.Option(help="trajectories a problem")] = None,
    keep: Annotated[int | None, typer.Option(help="how many the check keeps")] = None,
    mark: Annotated[int | None, typer.Option(help="sampled tokens before the check")] = None,
    scorer: Annotated[str | None, typer.Option(help=f"one of {', '.join(scorer_names())}")] = None,
    record: Annotated[
        str | None, typer.Option(help="full: finish all trajectories, for solver.replay")
    ] = None,
    time_limit: Annotated[str | None, typer.Option(help="whole run: 20s, 5m, 4h50m")] = None,
    seed: Annotated[int | None, typer.Option(help="of every random draw")] = None,
    model: Annotated[str | None, typer.Option(help="folder or GGUF file of a local model")] = None,
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
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="solve on a Ray cluster: its address, or none for one on this machine",
        ),
    ] = None,
    actors: Annotated[int | None, typer.Option(help="of --ray  [as many as fit]", min=1)] = None,
    gpus_per_actor: Annotated[
        float | None,
        typer.Option(help="of --ray  [1 where the cluster has GPUs, else 0]", min=0),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="show the report live, to this machine only")
    ] = False,
    port: Annotated[
        int | None, typer.Option(help="of --serve  [any free one]", min=0, max=65535)
    ] = None,
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
    if port is not None and not serve:
        raise ConfigError("--port is of --serve: give it too")
    hands = Hands.of_flags(ray, actors, gpus_per_actor)
    given = {key: value for key, value in flags.items() if value is not None}
    part = Shard.parse(shard) if shard is not None else None
    selection = Selection(_ids(ids), shuffle, limit, part)
    if selection != EVERY_PROBLEM and problems is None:
        raise InputError(
            "--limit, --shuffle, --ids and --shard select from a file of problems: give it too"
        )

    def configured(base: SolverConfig | None = None) -> SolverConfig:
        settings = load_config(preset, config, sets or (), given, base=base)
        if base is None:
            refuse_unread(settings)
        return settings

    if resume is not None:
        if run_dir is not None:
            raise InputError("--resume names the run folder; leave out --run-dir")
        run = open_run(
            resume,
            configured,
            problems,
            output,
            force=force,
            on_failure=print_error,
            selection=selection,
        )
    elif problems is not None:
        run = create_run(
            run_dir,
            configured(),
            problems,
            output or Path(f"answers.{part.label}.csv" if part else "answers.csv"),
            force=force,
            on_failure=print_error,
            selection=selection,
        )
    else:
        raise InputError("give a file of problems, for example examples/problems.csv")
    with contextlib.closing(run), served(run, port or 0) if serve else contextlib.nullcontext():
        call: _Call = context.obj
        call.limit(run.config.budget.time_limit_s)
        return run_problems(run, call.started_at, quiet=quiet, end_by=call.end_by, hands=hands)


def _ids(text: str | None) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",")) if text is not None else ()
    if not all(found):
        raise InputError(f"--ids names problems, such as a,b,c, not {text!r}")
    return found


def _model_path(model: str | None) -> str | None:
    # Absolute, so that a resume from another folder finds the same model.
    return model if model in (None, "embedded") else str(user_path(model).absolute())


if __name__ == "__main__":
    sys.exit(main())
