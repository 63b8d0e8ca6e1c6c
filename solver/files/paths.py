"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

from solver.errors import ConfigError


def user_path(text: str) -> Path:
    """The path, with `~` and `~name` as home folders. Raises `ConfigError` for a user who is not there."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{text}: there is no such home folder") from None
