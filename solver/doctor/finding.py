"""One line of the doctor's table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """`WARN` runs, but worse than it could; `FAIL` does not run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The name of a check, what it found, and what to do about it (empty if nothing)."""

    name: str
    status: Status
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Finding:
    """A finding that needs no action."""
    return Finding(name, Status.OK, found)


def warn(name: str, found: str, advice: str) -> Finding:
    """A finding with which a run works, but slower or with less isolation."""
    return Finding(name, Status.WARN, found, advice)


def fail(name: str, found: str, advice: str) -> Finding:
    """A finding with which a run does not work."""
    return Finding(name, Status.FAIL, found, advice)


def gb(size: float) -> str:
    """Bytes as gigabytes; small sizes as megabytes."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
