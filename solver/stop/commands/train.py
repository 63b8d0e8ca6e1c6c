"""`python -m solver.stop train`: labelled prefixes to an adapter folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solver.cli.extras import require
from solver.cli.progress import WorkProgress
from solver.embedded.paths import EMBEDDED
from solver.errors import ConfigError
from solver.stop.commands.cutting import END, examples_of
from solver.stop.commands.libraries import quiet_transformers
from solver.stop.commands.sampling import numbers

if TYPE_CHECKING:
    from solver.stop.rollouts.examples import StopExample

EXAMPLE = "Example: python -m solver.stop train data.jsonl --base embedded --out adapters/embedded"


def train_command(
    data: Annotated[
        Path,
        typer.Argument(
            help="JSONL of examples (prefix_token_ids, soft_label, ...), or *.rollouts.jsonl"
        ),
    ],
    base: Annotated[str, typer.Option(help="model folder or GGUF file, or 'embedded'")],
    out: Annotated[Path, typer.Option(help="adapter folder to write")],
    mark: Annotated[
        str | None,
        typer.Option(
            help="sampled tokens of a prefix, or several: 32,64  [the rows' logprobs]; end: whole rollouts,"
            " for the last check"
        ),
    ] = None,
    dialect: Annotated[str, typer.Option(help="conversation format of the prefixes")] = "fenced",
    prompt: Annotated[
        str | None,
        typer.Option(help="prompt template of the prefixes  [that of the rollouts, else bare]"),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="the same, to validate on  [a share of the problems]")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="embedded; paper: all layers, r 128; few-problems: begins as a text, for a real model"
        ),
    ] = "embedded",
    stop_ids: Annotated[
        str | None, typer.Option(help="ids such as 4,5,6,7  [found in the vocabulary]")
    ] = None,
    stop_text: Annotated[
        str | None, typer.Option(help="text as whose tokens the [STOP] ids begin  [noise]")
    ] = None,
    num_stop: Annotated[int | None, typer.Option(help="number of [STOP] ids")] = None,
    rank: Annotated[int | None, typer.Option(help="of the low-rank deltas")] = None,
    alpha: Annotated[float | None, typer.Option(help="deltas are scaled by alpha / rank")] = None,
    targets: Annotated[
        str | None, typer.Option(help="layers such as q_proj,v_proj, or all-linear")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="highest rate of AdamW")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine or constant")] = None,
    warmup: Annotated[int | None, typer.Option(help="steps until the highest rate")] = None,
    epochs: Annotated[int | None, typer.Option(help="most passes over the data")] = None,
    patience: Annotated[int | None, typer.Option(help="epochs without a better one")] = None,
    batch: Annotated[int | None, typer.Option(help="examples a step")] = None,
    micro_batch: Annotated[
        int | None, typer.Option(help="examples a forward: gradients are accumulated")
    ] = None,
    validation_share: Annotated[float | None, typer.Option(help="of the problems")] = None,
    auroc_floor: Annotated[
        float | None, typer.Option(help="validation AUROC below it keeps the old adapter")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="of the base: float32 or bfloat16")] = None,
    device: Annotated[str, typer.Option(help="auto or cpu")] = "auto",
    cache_gib: Annotated[float | None, typer.Option(help="prefix KV kept in memory")] = None,
    kv: Annotated[
        Path | None, typer.Option(help="folder of prefix KV instead: gone on with, and used again")
    ] = None,
    window: Annotated[int | None, typer.Option(help="tokens of a confidence window")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch")] = None,
    seed: Annotated[int | None, typer.Option(help="of weights, split and order")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where it was")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print the result only")] = False,
) -> None:
    """Train an adapter on labelled prefixes; writes it, its scores and the picture of its curve."""
    from solver.adapter.fingerprint import read_config
    from solver.embedded.paths import model_folder
    from solver.stop.training.recipe import make_recipe

    require("training", "accelerate", "matplotlib")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"--device is auto or cpu, not {device!r}")
    recipe = make_recipe(
        preset,
        {
            "stop_token_ids": _ids(stop_ids),
            "stop_text": stop_text,
            "num_stop_tokens": num_stop,
            "rank": rank,
            "alpha": alpha,
            "targets": _targets(targets),
            "learning_rate": learning_rate,
            "schedule": schedule,
            "warmup_steps": warmup,
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch,
            "micro_batch": micro_batch,
            "validation_share": validation_share,
            "auroc_floor": auroc_floor,
            "dtype": dtype,
            "cache_gib": cache_gib,
            "window": window,
            "seed": seed,
        },
    )
    folder = model_folder(base)
    vocab_size = read_config(folder).get("vocab_size")
    marks = None if mark is None else [] if mark == END else numbers(mark, "--mark")
    prompt, examples = examples_of(data, marks, vocab_size, prompt)
    held_out = None
    if validation is not None:
        _, held_out = examples_of(validation, marks, vocab_size, prompt)
    if marks is None:
        marks = [_own_mark(examples)]
    lengths = {len(example.logprobs) for example in examples if example.logprobs}
    if marks and lengths and lengths != {*marks}:
        shown = " and ".join(map(str, sorted(lengths)[:3]))
        raise ConfigError(f"--mark is {mark}, but {data} has prefixes of {shown} sampled tokens")

    quiet_transformers()
    import torch

    from solver.stop.training.train import train

    if threads is not None:
        torch.set_num_threads(threads)
    first = os.environ.get("RANK", "0") == "0"  # of the processes that a launcher started
    with WorkProgress(quiet=quiet or not first) as progress:
        spec = train(
            examples,
            folder,
            out,
            recipe,
            marks=marks,
            dialect=dialect,
            prompt=prompt,
            validation=held_out,
            base_name=EMBEDDED if base == EMBEDDED else None,
            resume=resume,
            kv=kv,
            cpu=device == "cpu",
            progress=progress,
            on_epoch=progress.say,
        )
    if not first:
        return
    assert spec.training is not None and spec.validation is not None
    typer.echo(f"{out}: epoch {spec.training.best_epoch + 1} of {len(spec.training.epochs)}")
    for name, value in spec.validation.model_dump().items():
        typer.echo(f"  validation {name} {'-' if value is None else round(value, 4)}")
    if spec.combiner is not None and spec.combiner.within_auroc is not None:
        typer.echo(
            f"  stop+confidence within_auroc {spec.combiner.within_auroc:.4f} (cross-fitted)"
        )
    if spec.probe is not None and spec.probe.validation.within_auroc is not None:
        typer.echo(f"  probe within_auroc {spec.probe.validation.within_auroc:.4f}")


def _own_mark(examples: Sequence[StopExample]) -> int:
    """The longest run of sampled tokens that the rows know of."""
    longest = max(len(example.logprobs or ()) for example in examples)
    if not longest:
        raise ConfigError("say with --mark after how many sampled tokens the prefixes were cut")
    return longest


def _ids(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--stop-ids are numbers such as 4,5,6,7, not {text!r}") from None


def _targets(text: str | None) -> object:
    return text if text in (None, "all-linear") else tuple(str(text).split(","))
