"""What is known of processes of other tests and of the code under test: they may end at any time."""

from __future__ import annotations

from contextlib import suppress

import psutil


def command_of(process: psutil.Process) -> str:
    """Its command line, or the title that it has taken; empty when it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def name_of(process: psutil.Process) -> str:
    """Its name; empty when it has ended."""
    try:
        return process.name()
    except psutil.Error:
        return ""


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def below(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Everything that descends from those of them that live."""
    found = []
    for one in processes:
        with suppress(psutil.Error):
            found += one.children(recursive=True)
    return found
