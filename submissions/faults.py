"""Injects faults into a rehearsal: `crash@3,hang@5,slow-start,raise@7`, each at most once.

    crash   the worker kills itself during that problem
    hang    its event loop blocks: no votes, no heartbeats
    stall   it sends heartbeats but never answers
    raise   an exception inside of the problem
    exit    the worker exits with code 0
    slow-start   loading takes `SLOW_START_S` longer

A fault is injected at the check; `crash@3:launch` names another stage: begin, launch, check, resume, vote.
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
    """The exception of an injected `raise`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of `kind` at `stage` of the problem in row `number`, counted from 1."""

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


class FaultInjector:
    """Injects faults in the worker; files in `folder` say after a restart which ones are done."""

    def __init__(self, faults: Iterable[Fault], folder: Path, slow_start_s: float) -> None:
        self._faults = tuple(faults)
        self._folder = folder
        self._slow_start_s = slow_start_s
        self._number = 0
        self._seen = ""

    def start(self) -> None:
        """Delay the start of the worker, as if the model loaded slowly."""
        for fault in self._faults:
            if fault.kind == SLOW_START and self._first_time(fault):
                time.sleep(self._slow_start_s)

    def begin(self, number: int) -> bool:
        """Whether the problem in row `number` is to be stalled; called when its task arrives."""
        self._number, self._seen = number, ""
        return any(
            fault.kind == "stall" and fault.number == number and self._first_time(fault)
            for fault in self._faults
        )

    def observe(self, event: Event) -> None:
        """Inject a fault if `event`, which was just recorded, begins its stage."""
        stage = _stage(event, checked=self._seen in ("check", "resume"))
        if stage is None or stage == self._seen:
            return
        self._seen = stage
        for fault in self._faults:
            if (fault.number, fault.stage) == (self._number, stage) and self._first_time(fault):
                _inject(fault)

    def _first_time(self, fault: Fault) -> bool:
        try:
            (self._folder / f"injected-{fault}").touch(exist_ok=False)
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


def _inject(fault: Fault) -> None:
    if fault.kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.kind == "exit":
        os._exit(0)
    elif fault.kind == "raise":
        raise InjectedError(f"injected at problem {fault.number}, {fault.stage}")
    elif fault.kind == "hang":
        _hang()


def _hang() -> NoReturn:
    while True:
        time.sleep(3600)
