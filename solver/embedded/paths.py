"""The folder of the shipped model."""

from pathlib import Path

from solver.files.paths import user_path

EMBEDDED = "embedded"
WEIGHTS = Path(__file__).parent / "weights"


def model_folder(path: str) -> Path:
    """The folder of a model named in a config: the shipped one, or the user's own."""
    return WEIGHTS if path == EMBEDDED else user_path(path)
