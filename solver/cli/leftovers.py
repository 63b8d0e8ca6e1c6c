"""Packages of an image that this project does not need, and that break libraries which it does need.

A torchvision or torchaudio that was built for another torch cannot be imported, and transformers imports
them where they are installed, without asking whether they load.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

UNNEEDED = ("torchaudio", "torchcodec", "torchvision")


def hide_leftovers() -> None:
    """Have every import of such a package in this process say that it is not installed.

    For processes that are ours alone; one that is imported already works, and stays.
    """
    for name in UNNEEDED:
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]


def hide_broken_leftovers() -> None:
    """The same for those that do not load: somebody else's process may use the others."""
    for name in UNNEEDED:
        if name in sys.modules or find_spec(name) is None:
            continue
        try:
            import_module(name)
        except Exception:  # whatever a library of another build raises
            sys.modules[name] = None  # type: ignore[assignment]
