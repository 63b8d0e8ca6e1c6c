"""What the commands ask of libraries before they use them."""

from __future__ import annotations

import os
from typing import Any


def quiet_transformers() -> None:
    """Switch off the progress bars and warnings of transformers."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging

    quiet: Any = logging.disable_progress_bar
    quiet()
