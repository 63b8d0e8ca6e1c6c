"""Faults to rehearse: `crash@3,hang@5,slow-start,raise@7`, at most once each.

    crash   the worker kills itself in the middle of that problem
    hang    its event loop stands still: no votes, no beats
    stall   it goes on beating but never answers
    raise   an exception inside of the problem
    exit    it leaves in good order, but leaves
    slow-start   loading takes `SLOW_START_S` longer

The middle is the check; `crash@3:launch` names another stage: begin, launch, check, resume, vote.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from solver.errors import ConfigError
from solver.journal.events import Checked, Ended, Event, ProblemStarted, Solved

KINDS = ("crash", "hang", "stall", "raise", "exit")
STAGES = ("begin", "launch", "check", "resume", "vote")
SLOW_START = "slow-start"
_FAULT = re.compile(rf"({'|'.join(KINDS)})@(\d+)(?::({'|'.join(STAGES)}))?")


class InjectedError(Exception):
    """What a rehearsed `raise` raises."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` strikes at `stage` of the problem that is handed out as number `number`, from 1."""

    kind: str
    number: int = 0
    stage: str = "check"

    def __str__(self) -> str:
        return self.kind if self.kind == SLOW_START else f"{self.kind}@{self.number}:{self.stage}"


def parse_faults(text: str) -> tuple[Fault, ...]:
    """The faults in `crash@3,hang@5:launch,slow-start`, or `ConfigError`."""
    faults = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _FAULT.fullmatch(part)
        if part == SLOW_START:
            faults.append(Fault(SLOW_START))
        elif match is not None:
            faults.append(Fault(match[1], int(match[2]), match[3] or "check"))
        else:
            raise ConfigError(
                f"--inject {part!r}: write kind@problem with {', '.join(KINDS)}, or {SLOW_START}"
            )
    return tuple(faults)


class Faults:
    """Strikes in the worker. `folder` remembers across restarts what has struck already."""

    def __init__(self, faults: Iterable[Fault], folder: Path, slow_start_s: float) -> None:
        self._faults = tuple(faults)
        self._folder = folder
        self._slow_start_s = slow_start_s
        self._number = 0
        self._seen = ""

    def start(self) -> None:
        """While the model loads."""
        for fault in self._faults:
            if fault.kind == SLOW_START and self._first_time(fault):
                time.sleep(self._slow_start_s)

    def begin(self, number: int) -> bool:
        """A problem is handed over; returns whether it is to be stalled."""
        self._number, self._seen = number, ""
        return any(
            fault.kind == "stall" and fault.number == number and self._first_time(fault)
            for fault in self._faults
        )

    def see(self, event: Event) -> None:
        """An event is recorded: strike if it begins the stage of a fault."""
        stage = _stage(event, checked=self._seen in ("check", "resume"))
        if stage is None or stage == self._seen:
            return
        self._seen = stage
        for fault in self._faults:
            if (fault.number, fault.stage) == (self._number, stage) and self._first_time(fault):
                _strike(fault)

    def _first_time(self, fault: Fault) -> bool:
        try:
            (self._folder / f"struck-{fault}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _stage(event: Event, *, checked: bool) -> str | None:
    if isinstance(event, ProblemStarted):
        return "begin"
    if isinstance(event, Checked):
        return "check"
    if isinstance(event, Ended):
        return "resume" if checked else "launch"
    return "vote" if isinstance(event, Solved) else None


def _strike(fault: Fault) -> None:
    if fault.kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.kind == "exit":
        os._exit(0)
    elif fault.kind == "raise":
        raise InjectedError(f"rehearsed at problem {fault.number}, {fault.stage}")
    elif fault.kind == "hang":
        _hang()


def _hang() -> NoReturn:
    while True:
        time.sleep(3600)
