"""Packages of an image that this project does not need, and that break libraries which it does need.

A torchvision or torchaudio that was built for another torch cannot be imported, and transformers imports
them where they are installed, without asking whether they load.
"""

from __future__ import annotations

import sys

UNNEEDED = ("torchaudio", "torchcodec", "torchvision")


def hide_leftovers() -> None:
    """Have every import of such a package in this process say that it is not installed.

    For processes that are ours alone; one that is imported already works, and stays.
    """
    for name in UNNEEDED:
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]
