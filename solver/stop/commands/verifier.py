"""`python -m solver.stop train-verifier`: a small reward model over text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.cli.progress import WorkProgress
from solver.errors import ConfigError, ModelError, first_line
from solver.stop.commands.cutting import examples_of
from solver.stop.commands.libraries import quiet_transformers
from solver.stop.commands.sampling import Quiet, Seed, numbers

EXAMPLE = "Example: python -m solver.stop train-verifier data.jsonl --base embedded --out verifier"


def verifier_command(
    data: Annotated[
        Path,
        typer.Argument(help="JSONL of examples, as `collect` writes them, or *.rollouts.jsonl"),
    ],
    out: Annotated[Path, typer.Option(help="model folder to write")],
    base: Annotated[str, typer.Option(help="model whose tokenizer reads the prefixes")] = (
        "embedded"
    ),
    mark: Annotated[
        str | None, typer.Option(help="sampled tokens to cut rollouts after, or several: 32,64")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="prompt template of the prefixes  [that of the rollouts, else bare]"),
    ] = None,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="begin with the base's weights, not from scratch")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    hidden: Annotated[int, typer.Option(min=8, help="width of the model")] = 96,
    layers: Annotated[int, typer.Option(min=1)] = 3,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="highest rate  [1e-3; 3e-4 to fine-tune]")
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Train a small reward model over text, for the scorer `reward`."""
    from solver.embedded.paths import model_folder

    marks = None if mark is None else numbers(mark, "--mark")
    prompt, examples = examples_of(data, marks, None, prompt)
    quiet_transformers()
    from sandbox.limits import Limits
    from solver.dialects.fenced import FencedDialect
    from solver.engines.tokenizer import load_tokenizer
    from solver.stop.training.verifier import VerifierRecipe, train_verifier

    try:
        tokenizer = load_tokenizer(model_folder(base))
    except (OSError, ValueError) as error:
        raise ModelError(f"no tokenizer in {base}: {first_line(error)}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    recipe = VerifierRecipe(
        start=model_folder(base) if fine_tune else None,
        hidden=hidden,
        layers=layers,
        epochs=epochs,
        learning_rate=learning_rate or (3e-4 if fine_tune else 1e-3),
        seed=seed,
    )
    if recipe.hidden % recipe.heads:
        raise ConfigError(f"--hidden is a multiple of {recipe.heads}, not {hidden}")
    with WorkProgress(quiet=quiet) as progress:
        metrics = train_verifier(
            examples,
            FencedDialect(tokenizer, prompt, Limits()),
            tokenizer,
            out,
            recipe,
            progress,
        )
    within = "-" if metrics.within_auroc is None else f"{metrics.within_auroc:.4f}"
    typer.echo(f"{out}: validation Brier {metrics.brier:.4f}, AUROC within problems {within}")
