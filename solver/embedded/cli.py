"""Command line of the embedded model: make problems, the corpus and the weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from solver.cli.app import quiet_libraries, run_app
from solver.cli.progress import WorkProgress
from solver.embedded.paths import WEIGHTS
from solver.embedded.problems import problems, write_csv
from solver.errors import InputError
from solver.files.whole import check_replaceable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="The embedded default model: problems, corpus and training.",
)

Workers = Annotated[int, typer.Option(min=1, help="Processes that write the corpus.")]


def _build_corpus(folder: Path, num: int, seed: int, workers: int, progress: WorkProgress) -> None:
    from solver.embedded import data

    progress.report("corpus", 0, num)
    corpus = data.build(
        folder, num, seed, workers, lambda done, total: progress.report("corpus", done, total)
    )
    sampled = corpus.sampled_lengths.sort().values
    typer.echo(
        f"{len(corpus)} trajectories, {len(corpus.ids)} tokens, mark {corpus.mark()}, "
        f"longest {int(corpus.lengths.max())}, median sampled {int(sampled[len(sampled) // 2])}"
    )


@app.command("problems")
def problems_command(
    out: Annotated[Path, typer.Option(help="The CSV file to write.")],
    split: Annotated[str, typer.Option(help="model, stop, validation or test.")] = "test",
    num: Annotated[int, typer.Option(help="Number of problems.")] = 300,
    seed: Annotated[int, typer.Option(help="Same seed, same problems.")] = 0,
) -> None:
    """Write problems of one split as CSV: id, problem, answer, family, kind."""
    rows = problems(split, num, seed)
    try:
        write_csv(rows, out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error
    typer.echo(f"{len(rows)} problems of split {split} in {out}")


@app.command("corpus")
def corpus_command(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    num: Annotated[int, typer.Option(min=1, help="Number of trajectories.")] = 60_000,
    seed: Annotated[int, typer.Option(help="Same seed, same corpus.")] = 0,
    workers: Workers = 1,
) -> None:
    """Write the encoded corpus and its tokenizer to a folder, for several trainings."""
    if (out / "corpus.pt").exists():
        raise InputError(f"{out} already holds a corpus: remove it first")
    with WorkProgress(quiet=False) as progress:
        _build_corpus(out, num, seed, workers, progress)


@app.command("train")
def train_command(
    out: Annotated[Path, typer.Option(help="The model folder to write.")] = WEIGHTS,
    corpus: Annotated[Path | None, typer.Option(help="A folder made by `corpus`.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    workers: Workers = 1,
    num: Annotated[int, typer.Option(min=1, help="Number of trajectories.")] = 60_000,
    seed: Annotated[int, typer.Option(help="Seed of corpus, weights and order.")] = 0,
    hidden: Annotated[int, typer.Option(min=8, help="Width of the model.")] = 128,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the model.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Trajectories a step.")] = 16,
    muon_rate: Annotated[float, typer.Option(min=0, help="Highest rate of Muon.")] = 0.02,
    adamw_rate: Annotated[float, typer.Option(min=0, help="Highest rate of AdamW.")] = 4e-3,
) -> None:
    """Train the model from scratch; an interrupted training is continued when started again."""
    import torch

    from solver.embedded import train

    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"device {device} cannot be used here")
    torch.set_num_threads(threads)
    settings = train.Settings(
        num=num,
        seed=seed,
        hidden=hidden,
        intermediate=3 * hidden,
        layers=layers,
        batch_size=batch_size,
        muon_rate=muon_rate,
        adamw_rate=adamw_rate,
    )
    settings.check()
    out = out.resolve()
    work = out.with_name(out.name + ".work")
    check_replaceable(out, "embedded.json")
    check_replaceable(work, "checkpoint.pt")
    if corpus is not None and corpus.resolve() == work:
        raise InputError(f"{work} is removed at the end: give --corpus another folder")
    mean = 0.0
    with WorkProgress(quiet=False) as progress:
        if corpus is None:
            _build_corpus(work, num, seed, workers, progress)
        run = train.Run(settings, work, corpus or work, device)
        progress.report("steps", run.step, len(run.order))
        while run.step < len(run.order):
            loss = run.advance()
            mean = loss if mean == 0 else 0.98 * mean + 0.02 * loss
            note = f"loss {mean:.3f}, {run.tokens / run.seconds:,.0f} tok/s"
            progress.report("steps", run.step, len(run.order), note)
        progress.report("finding the threshold of familiar statements")
        train.save(run, out, mean)
    shutil.rmtree(work)
    typer.echo(f"{out}: {run.tokens} tokens in {run.seconds / 60:.1f} minutes, loss {mean:.4f}")


@app.command("card")
def card_command(
    run: Annotated[Path, typer.Argument(help="A run folder: --scorer none --set vote.stop=off.")],
) -> None:
    """Write the results of a run over test problems into MODEL_CARD.md."""
    from solver.embedded import card

    card.fill(WEIGHTS.parent / "MODEL_CARD.md", card.render(*card.measure(run)))


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command and return its exit code; a bad input is one line on stderr and exit code 2."""
    with quiet_libraries():
        return run_app(app, argv, prog=prog)
