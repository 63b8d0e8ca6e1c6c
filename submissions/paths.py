"""Finds the folders that are attached to a notebook: Kaggle has several layouts, and all are tried.

/kaggle/input/<name>                                             datasets, competitions, notebooks
/kaggle/input/{competitions,datasets/<owner>,notebooks/<owner>}/<name>
/kaggle/input/[models/<owner>/]<name>/<framework>/<variation>/<version>
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from solver.config import SolverConfig
from solver.embedded.paths import EMBEDDED
from solver.errors import InputError
from solver.files.paths import user_path

INPUT = Path("/kaggle/input")
MODEL_FILES = ("config.json", "*.gguf")
ADAPTER_FILES = ("stop.json",)
REWARD_FILES = ("config.json",)
COMPETITION_FILES = ("test.csv", "kaggle_evaluation", "aimo")
_LAYOUTS = (
    "{name}",
    "competitions/{name}",
    "datasets/*/{name}",
    "notebooks/*/{name}",
    "models/*/{name}",
)
_DEPTHS = ("", "/*", "/*/*", "/*/*/*")  # a model's framework, variation and version; a subfolder
_SHOWN = 40
_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")


def attached(name: str, files: Iterable[str], root: Path = INPUT) -> Path | None:
    """The folder called `name` (its last part counts) that holds one of `files`, in any layout.

    Of several versions of a model the highest counts. `files` may be patterns.
    """
    wanted = tuple(files)
    pattern = Path(name).name
    if not pattern:
        return None
    for depth in _DEPTHS:
        for layout in _LAYOUTS:
            folders = root.glob(layout.format(name=pattern) + depth)
            fitting = [f for f in folders if any(any(f.glob(file)) for file in wanted)]
            if fitting:
                return max(fitting, key=_by_number)
    return None


def resolve(config: SolverConfig, root: Path = INPUT) -> SolverConfig:
    """The config with the folders of the model and the adapters on this machine.

    What exists is used as it is, anything else is looked for by its name: a GGUF file by its own or by that
    of the folder that it lies in. Raises `InputError` with a list of what is attached if none is found.
    """
    path = _model(config.model.path, root)

    def part(folder: str | None, files: tuple[str, ...], what: str) -> str | None:
        return None if folder is None else _found(folder, files, what, root)

    prune = {
        "adapter": part(config.prune.adapter, ADAPTER_FILES, "adapter"),
        "reward_model": part(config.prune.reward_model, REWARD_FILES, "reward model"),
    }
    vote = {"adapter": part(config.vote.adapter, ADAPTER_FILES, "adapter")}
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"path": path}),
            "prune": config.prune.model_copy(update=prune),
            "vote": config.vote.model_copy(update=vote),
        }
    )


def located(settings: Iterable[str], root: Path = INPUT) -> list[str]:
    """`key=value` settings, an adapter that is attached by its folder; what is not found stays as it is."""
    found = []
    for setting in settings:
        key, _, value = setting.partition("=")
        is_adapter = key in ("prune.adapter", "vote.adapter")
        folder = attached(value.strip("'\""), ADAPTER_FILES, root) if is_adapter else None
        found.append(setting if folder is None else f"{key}={folder}")
    return found


def listing(root: Path = INPUT) -> list[str]:
    """The attached folders, a few levels deep, for messages."""
    lines = sorted(str(path) for path in _folders(root, 5))
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return lines[:_SHOWN] + more if lines else [f"{root} holds no folders"]


def _model(path: str, root: Path) -> str:
    """The model's folder, or its GGUF file."""
    if path.endswith(".gguf") and not user_path(path).exists():
        named = [f for depth in range(7) for f in root.glob("*/" * depth + Path(path).name)]
        if named:
            return str(named[0])
    folder = _found(path, MODEL_FILES, "model", root)
    if folder == EMBEDDED or not user_path(folder).is_dir():
        return folder
    files = sorted(f for f in user_path(folder).glob("*.gguf") if not _LATER_PART.search(f.name))
    if (user_path(folder) / "config.json").exists() or not files:
        return folder
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{folder} holds several models, name one of {names}")
    return str(files[0])


def _found(path: str, files: tuple[str, ...], what: str, root: Path) -> str:
    if path == EMBEDDED or (path and user_path(path).exists()):
        return path
    folder = attached(path, files, root)
    if folder is None:
        raise InputError(
            f"no {what} {path!r} with {' or '.join(files)}: attach it to the notebook;"
            f" looked at {', '.join(listing(root))}"
        )
    return str(folder)


def _folders(root: Path, depth: int) -> Iterator[Path]:
    if depth == 0 or not root.is_dir():
        return
    for folder in root.iterdir():
        if folder.is_dir():
            yield folder
            yield from _folders(folder, depth - 1)


def _by_number(path: Path) -> list[tuple[str, int]]:
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", str(path))]
