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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from solver.cli.app import run_app
from solver.cli.extras import require
from solver.cli.progress import WorkProgress
from solver.embedded.paths import EMBEDDED
from solver.errors import ConfigError, InputError
from solver.runs.settings import preset_names
from solver.wheels.driver import cuda_of, oldest_driver
from solver.wheels.manifest import Manifest
from submissions.competitions import COMPETITIONS, competition
from submissions.wheelhouse import ROOT, check_wheelhouse, make_wheelhouse

FOLDER = ROOT / "notebook"
SOURCE = FOLDER / "submission.py"
NOTEBOOK, METADATA = "submission.ipynb", "kernel-metadata.json"
USER = "YOUR-KAGGLE-NAME"
MODEL = "MODEL-OWNER/gpt-oss-120b/transformers/default/1"  # as on the model's page
_NAME = re.compile(r"[\w-]+", re.ASCII)
_OWNED = re.compile(r"[\w-]+/[\w-]+", re.ASCII)
_MODEL = re.compile(r"[\w-]+/(?P<name>[\w.-]+)/[\w-]+/[\w.-]+/\d+", re.ASCII)
_TITLE = range(5, 51)  # characters that Kaggle accepts
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="The notebook of a submission, and its wheels.",
)


def render(source: str, variables: Mapping[str, str] | None = None) -> str:
    """submission.ipynb of a `# %%` source: no outputs, and numbers as cell ids so that builds are equal.

    `variables` are the values of texts that are assigned in the source.
    """
    for name, value in (variables or {}).items():
        assigned = re.compile(rf'^{name} = "[^"]*"', re.MULTILINE)
        source, found = assigned.subn(f"{name} = {json.dumps(value)}", source)
        assert found == 1, f"{name} is assigned {found} times"
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
        typer.Option(
            help="OWNER/SLUG of a dataset; default: USER/stop-solver-wheels, with --kernel none"
        ),
    ] = None,
    kernel: Annotated[
        list[str] | None, typer.Option(help="OWNER/SLUG of a notebook whose output is attached")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="OWNER/MODEL/FRAMEWORK/VARIATION/VERSION, the solver's first; or embedded"
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help=", ".join(preset_names()))] = None,
    gpu: Annotated[str, typer.Option(help="machine_shape, or none")] = "NvidiaH100",
) -> None:
    """Write submission.ipynb and kernel-metadata.json, ready for `kaggle kernels push -p`."""
    datasets = dataset or ([] if kernel else [f"{user}/stop-solver-wheels"])
    models = [] if model == [EMBEDDED] else [MODEL] if model is None else model
    _check_names(user, title, [*datasets, *(kernel or ())], models)
    known = [_MODEL.fullmatch(one)["name"] for one in models]  # type: ignore[index]
    if len({*known}) < len(known):
        raise ConfigError(
            "two variations of one model are attached: the notebook would not know which"
        )
    name = known[0] if known else EMBEDDED
    variables = {
        "COMPETITION": competition(target).name,
        "MODEL": name,
        "PRESET": _preset(preset, name),
    }
    metadata = kernel_metadata(
        user=user,
        title=title,
        target=target,
        datasets=datasets,
        kernels=kernel or (),
        models=models,
        gpu=None if gpu == "none" else gpu,
    )
    if not SOURCE.is_file():
        raise InputError(f"there is no {SOURCE}: run this in a clone of the project")
    notebook = render(SOURCE.read_text(encoding="utf-8"), variables)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / NOTEBOOK).write_text(notebook, encoding="utf-8")
        (out / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    typer.echo(f"{out / NOTEBOOK}\n{out / METADATA}")
    if user == USER:
        typer.echo(f"before you upload: build it with --user NAME; {USER} is a placeholder")


def _check_names(user: str, title: str, sources: Sequence[str], models: Sequence[str]) -> None:
    """Refuse names that cannot be Kaggle's, and placeholders beside a real name."""
    if not _NAME.fullmatch(user):
        raise ConfigError(f"--user {user!r} is no name in Kaggle's URLs")
    for name in sources:
        if not _OWNED.fullmatch(name):
            raise ConfigError(f"{name!r} is not a source: write OWNER/SLUG, as in its URL")
    for name in models:
        if not _MODEL.fullmatch(name):
            raise ConfigError(
                f"{name!r} is not a model: write OWNER/MODEL/FRAMEWORK/VARIATION/VERSION, as on its"
                " page, or embedded"
            )
    if user != USER and MODEL in models:
        raise ConfigError(f"{MODEL} is a placeholder: give --model, as on the model's page")
    if not slug(title):
        raise ConfigError(f"--title {title!r} has no letter or digit")
    if len(title) not in _TITLE:
        raise ConfigError(f"--title {title!r}: Kaggle takes {_TITLE[0]} to {_TITLE[-1]} characters")


def _preset(given: str | None, model: str) -> str:
    """The preset that is given, the one named like the model, or `general`."""
    if given is not None and given not in preset_names():
        raise ConfigError(f"unknown preset {given!r}; the presets are {', '.join(preset_names())}")
    return given or (model if model in preset_names() else "general")


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
            readable=False,
            help="pip's constraints  [constraints.txt, with vllm constraints-vllm.txt]",
        ),
    ] = None,
) -> None:
    """Build our wheel and download every other one that an offline machine needs."""
    extras = extra or []
    if constraint is None:  # the versions that our tests run
        constraint = ROOT / ("constraints-vllm.txt" if "vllm" in extras else "constraints.txt")
    with WorkProgress(quiet=False) as progress:

        def say(line: str) -> None:
            typer.echo(line)
            progress.report(line)

        manifest = make_wheelhouse(out, python, extras, constraint, say)
    typer.echo(_described(out, manifest))


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(readable=False, help="a wheelhouse")],
) -> None:
    """Check a wheelhouse: every hash, and that nothing is missing."""
    with WorkProgress(quiet=False) as progress:
        progress.report("checking the hashes")
        manifest = check_wheelhouse(folder)
    typer.echo(_described(folder, manifest))


def _described(folder: Path, manifest: Manifest) -> str:
    wheels = manifest.wheels
    size = sum(wheel.size for wheel in wheels) / 1e6
    needed = oldest_driver(cuda_of((wheel.name, wheel.version) for wheel in wheels))
    driver = f"; NVIDIA driver {needed} or newer" if needed else ""
    return (
        f"{folder}: {manifest.requirement}, {len(wheels)} wheels, {size:,.0f} MB, complete{driver}"
    )


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command; mistakes of the user are one line and exit code 2."""
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    return run_app(app, argv, prog=prog)


if __name__ == "__main__":
    sys.exit(main())
