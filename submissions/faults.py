"""Injects faults into a rehearsal: `crash@3,freeze-guard@5,slow-start`, each at most once.

    crash   the worker kills itself during that problem
    freeze  the worker is stopped, with all its threads
    hang    its event loop blocks: no votes, no heartbeats
    stall   it sends heartbeats but never answers
    raise   an exception inside of the problem
    exit    the worker exits with code 0
    kill-PART, freeze-PART   of the submission's other processes: guard, zygote, server (of vLLM), notebook;
            a frozen notebook goes on after `FROZEN_S`, the others never do
    full-disk    the disk of the run folder, if it is a small one
    slow-start   loading takes `SLOW_START_S` longer

A fault is injected at the check; `crash@3:launch` names another stage: begin, launch, check, resume, vote.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil

from solver.engines.vllm import watcher
from solver.errors import ConfigError
from solver.journal.events import Checked, Ended, Event, ProblemStarted, Solved

FROZEN_S = 4.0
PARTS = ("guard", "zygote", "server", "notebook")
OWN = ("crash", "freeze", "hang", "stall", "raise", "exit")
KINDS = (*OWN, *(f"{how}-{part}" for how in ("kill", "freeze") for part in PARTS), "full-disk")
# What every submission gets over, whatever it runs on; a notebook that is killed leaves no file.
SURVIVED = (*OWN, "kill-guard", "freeze-guard", "freeze-notebook")
STAGES = ("begin", "launch", "check", "resume", "vote")
SLOW_START = "slow-start"
_LARGEST_FILLED = 256 << 20  # bytes: nobody's own disk is filled
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


def random_faults(
    seed: int, num_problems: int, count: int, kinds: Sequence[str] = SURVIVED
) -> tuple[Fault, ...]:
    """`count` faults of these kinds, at any stage of any problem, and sometimes a slow start."""
    draw = random.Random(seed)
    faults = [
        Fault(draw.choice(kinds), draw.randint(1, num_problems), draw.choice(STAGES))
        for _ in range(count)
    ]
    return (*faults, Fault(SLOW_START)) if draw.random() < 0.3 else tuple(faults)


class FaultInjector:
    """Injects faults in the worker; files in `folder` say after a restart which ones are done."""

    def __init__(self, faults: Iterable[Fault], folder: Path, slow_start_s: float) -> None:
        self._faults = tuple(faults)
        self._folder = folder
        self._slow_start_s = slow_start_s
        self._number = 0
        self._seen = ""
        self._done: set[Fault] = set()

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
                _inject(fault, self._folder)

    def _first_time(self, fault: Fault) -> bool:
        if fault in self._done:
            return False
        self._done.add(fault)
        try:
            (self._folder / f"injected-{fault}").touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # a full disk: this worker remembers it
            pass
        return True


def _stage(event: Event, *, checked: bool) -> str | None:
    if isinstance(event, ProblemStarted):
        return "begin"
    if isinstance(event, Checked):
        return "check"
    if isinstance(event, Ended):
        return "resume" if checked else "launch"
    return "vote" if isinstance(event, Solved) else None


def _inject(fault: Fault, folder: Path) -> None:
    if fault.kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.kind == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.kind == "exit":
        os._exit(0)
    elif fault.kind == "raise":
        raise InjectedError(f"injected at problem {fault.number}, {fault.stage}")
    elif fault.kind == "hang":
        _hang()
    elif fault.kind == "full-disk":
        _fill(folder)
    else:
        how, _, part = fault.kind.partition("-")
        _strike(how, part)


def _hang() -> NoReturn:
    while True:
        time.sleep(3600)


def _strike(how: str, part: str) -> None:
    """Kill or freeze a part of the submission that this process is the worker of."""
    process = _FIND[part](psutil.Process())
    if process is None:
        _say(f"there is no {part} to {how}")
    elif how == "kill":
        process.kill()
    else:
        process.suspend()
        if part == "notebook":
            goes_on = threading.Timer(FROZEN_S, process.resume)
            goes_on.daemon = True
            goes_on.start()


def _guard(worker: psutil.Process) -> psutil.Process | None:
    return worker.parent()


def _notebook(worker: psutil.Process) -> psutil.Process | None:
    guard = worker.parent()
    return None if guard is None else guard.parent()


def _zygote(worker: psutil.Process) -> psutil.Process | None:
    return _first_below(worker, "keeper")


def _server(worker: psutil.Process) -> psutil.Process | None:
    return _first_below(worker, watcher.__file__)


def _first_below(worker: psutil.Process, word: str) -> psutil.Process | None:
    """The oldest child of the worker's child that has `word` on its command line."""
    for parent in worker.children():
        with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
            if word in parent.cmdline():
                return min(parent.children(), key=psutil.Process.create_time, default=None)
    return None


_FIND: dict[str, Callable[[psutil.Process], psutil.Process | None]] = {
    "guard": _guard,
    "zygote": _zygote,
    "server": _server,
    "notebook": _notebook,
}


def _fill(folder: Path) -> None:
    """Leave no byte of the folder's disk, but for what root may use alone."""
    if shutil.disk_usage(folder).free > _LARGEST_FILLED:
        _say("the disk is too large to be filled")
        return
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:  # full, for pieces of this size
                continue


def _say(what: str) -> None:
    print(f"not injected: {what}", file=sys.stderr, flush=True)
