"""`python -m submissions.notebook`: builds the notebook to upload, and the wheels that it installs.

Edit `notebook/submission.py` (in `# %%` form), not the notebook: `build` makes submission.ipynb and
kernel-metadata.json of it. The same source gives the same bytes.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from solver.cli.app import run_app
from solver.cli.extras import require
from solver.cli.progress import WorkProgress
from solver.errors import ConfigError, InputError
from submissions.competitions import COMPETITIONS, competition
from submissions.wheelhouse import ROOT, check_wheelhouse, make_wheelhouse

FOLDER = ROOT / "notebook"
SOURCE = FOLDER / "submission.py"
NOTEBOOK, METADATA = "submission.ipynb", "kernel-metadata.json"
USER = "YOUR-KAGGLE-NAME"
MODEL = "MODEL-OWNER/gpt-oss-120b/transformers/default/1"  # as on the model's page
_OWNED = re.compile(r"[\w-]+/[\w-]+")
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="The notebook of a submission, and its wheels.",
)


def render(source: str) -> str:
    """submission.ipynb of a `# %%` source: no outputs, and numbers as cell ids so that builds are equal."""
    require("building a notebook", "jupytext", "nbformat")
    jupytext: Any = importlib.import_module("jupytext")
    nbformat: Any = importlib.import_module("nbformat")
    notebook = jupytext.reads(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict({"kernelspec": _KERNEL})
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    text: str = nbformat.writes(notebook)
    return text.rstrip("\n") + "\n"


def kernel_metadata(
    *,
    user: str,
    title: str,
    target: str,
    datasets: Sequence[str],
    kernels: Sequence[str],
    models: Sequence[str],
    gpu: str | None,
) -> dict[str, Any]:
    """kernel-metadata.json: the attached sources and the machine. The id is the title's slug."""
    return {
        "id": f"{user}/{slug(title)}",
        "title": title,
        "code_file": NOTEBOOK,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": gpu is not None,
        "enable_internet": False,
        **({} if gpu is None else {"machine_shape": gpu}),
        "dataset_sources": list(datasets),
        "kernel_sources": list(kernels),
        "competition_sources": [competition(target).slug],
        "model_sources": list(models),
    }


def slug(title: str) -> str:
    """Kaggle's slug of a title: lower case, with dashes for all other characters."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


@app.command()
def build(
    out: Annotated[Path, typer.Option(readable=False, help="folder to write")] = FOLDER,
    user: Annotated[str, typer.Option(help="your name in Kaggle's URLs")] = USER,
    title: Annotated[str, typer.Option(help="the notebook's title")] = "stop-solver submission",
    target: Annotated[str, typer.Option("--competition", help=", ".join(COMPETITIONS))] = "aimo3",
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="OWNER/SLUG of a dataset; default: USER/stop-solver-wheels"),
    ] = None,
    kernel: Annotated[
        list[str] | None, typer.Option(help="OWNER/SLUG of a notebook whose output is attached")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="OWNER/MODEL/FRAMEWORK/VARIATION/VERSION")
    ] = None,
    gpu: Annotated[str, typer.Option(help="machine_shape, or none")] = "NvidiaH100",
) -> None:
    """Write submission.ipynb and kernel-metadata.json, ready for `kaggle kernels push -p`."""
    datasets = [f"{user}/stop-solver-wheels"] if dataset is None else dataset
    for name in [*datasets, *(kernel or ())]:
        if not _OWNED.fullmatch(name):
            raise ConfigError(f"{name!r} is not a source: write OWNER/SLUG, as in its URL")
    if not slug(title):
        raise ConfigError(f"--title {title!r} has no letter or digit")
    metadata = kernel_metadata(
        user=user,
        title=title,
        target=target,
        datasets=datasets,
        kernels=kernel or (),
        models=[MODEL] if model is None else model,
        gpu=None if gpu == "none" else gpu,
    )
    if not SOURCE.is_file():
        raise InputError(f"there is no {SOURCE}: run this in a clone of the project")
    notebook = render(SOURCE.read_text(encoding="utf-8"))
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / NOTEBOOK).write_text(notebook, encoding="utf-8")
        (out / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    typer.echo(f"{out / NOTEBOOK}\n{out / METADATA}")
    if user == USER:
        typer.echo(f"before you upload: build it with --user NAME; {USER} is a placeholder")


@app.command()
def wheelhouse(
    out: Annotated[Path, typer.Option(readable=False, help="folder for the wheels")],
    python: Annotated[str, typer.Option(help="of the machine that installs them")] = "3.12",
    extra: Annotated[
        list[str] | None, typer.Option(help="an extra of pyproject.toml, such as vllm")
    ] = None,
    constraint: Annotated[
        Path | None,
        typer.Option(
            readable=False, help="pip's constraints  [constraints.txt; none with vllm, which pins]"
        ),
    ] = None,
) -> None:
    """Build our wheel and download every other one that an offline machine needs."""
    extras = extra or []
    if constraint is None and "vllm" not in extras:
        constraint = ROOT / "constraints.txt"
    with WorkProgress(quiet=False) as progress:

        def say(line: str) -> None:
            typer.echo(line)
            progress.report(line)

        manifest = make_wheelhouse(out, python, extras, constraint, say)
    typer.echo(_described(out, manifest.requirement, [wheel.size for wheel in manifest.wheels]))


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(readable=False, help="a wheelhouse")],
) -> None:
    """Check a wheelhouse: every hash, and that nothing is missing."""
    with WorkProgress(quiet=False) as progress:
        progress.report("checking the hashes")
        manifest = check_wheelhouse(folder)
    typer.echo(_described(folder, manifest.requirement, [wheel.size for wheel in manifest.wheels]))


def _described(folder: Path, requirement: str, sizes: Sequence[int]) -> str:
    return f"{folder}: {requirement}, {len(sizes)} wheels, {sum(sizes) / 1e6:,.0f} MB, complete"


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command; mistakes of the user are one line and exit code 2."""
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    return run_app(app, argv, prog=prog)


if __name__ == "__main__":
    sys.exit(main())
