"""Where long work stands: bars on a terminal, elsewhere a line at least every half minute.

Work reports its stages from within its loops. The lines come from a thread, so that they also come while
one step (a model that is loaded, a batch that is encoded) takes longer than that.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from solver.cli.consoles import LastingConsole
from solver.clock import MonotonicClock
from solver.ports import Clock

LINE_EVERY_S = 20.0
_DRAWN_EVERY_S = 1.0
_RATE_OVER_S = 5.0


def clock_text(seconds: float) -> str:
    """`1:06:40`, or `6:40` below an hour."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def rate_text(rate: float) -> str:
    """`1,234 tokens/s`, with a decimal where a slow machine makes fewer than ten."""
    return f"{rate:,.{1 if 0 < rate < 10 else 0}f} tokens/s"


@contextlib.contextmanager
def repeating(call: Callable[[], None], every_s: float = LINE_EVERY_S) -> Iterator[None]:
    """Call a function every so many seconds during the block, from a thread of its own."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(every_s):
            call()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class TokenRate:
    """Tokens a second, over the time since it was last asked but no less than five seconds."""

    def __init__(self, now: float) -> None:
        """Count from `now` (seconds on any clock)."""
        self.total = 0
        self._counted, self._since, self._value = 0, now, 0.0

    def add(self, num_tokens: int) -> None:
        """Count tokens."""
        self.total += num_tokens

    def at(self, now: float) -> float:
        """The rate at `now`."""
        passed = now - self._since
        if passed >= _RATE_OVER_S:
            self._value = (self.total - self._counted) / passed
            self._counted, self._since = self.total, now
        return self._value


@dataclass(slots=True)
class _Stage:
    """A part of the work: how many of its units are done, and how it stood when it began."""

    total: int | None
    began_at: float
    began_with: int
    tokens_before: int
    done: int
    note: str = ""

    @property
    def is_over(self) -> bool:
        return self.total is not None and self.done >= self.total

    def left_s(self, now: float) -> float | None:
        """Seconds until it is over, if the rest goes as what was done here; None before anything is."""
        new = self.done - self.began_with
        if self.total is None or new <= 0:
            return None
        return (self.total - self.done) * (now - self.began_at) / new


class WorkProgress:
    """Shows on stderr the stages that are under way; nothing of it if `quiet`.

    Work calls `report` as it goes on, `sampled` for tokens and `say` for a line of its own.
    """

    def __init__(
        self, *, quiet: bool, clock: Clock | None = None, console: Console | None = None
    ) -> None:
        """`clock` and `console` are the process's own if None."""
        self._clock = clock or MonotonicClock()
        self._console = console or LastingConsole(
            stderr=True, quiet=quiet, highlight=False, emoji=False
        )
        self._stages: dict[str, _Stage] = {}
        self._rate = TokenRate(self._clock.now())
        self._lock = threading.Lock()
        self._running = ExitStack()
        self._tasks: dict[str, Any] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> WorkProgress:
        self._running.enter_context(self._bars)
        if not self._console.quiet:
            every_s = _DRAWN_EVERY_S if self._console.is_terminal else LINE_EVERY_S
            self._running.enter_context(repeating(self.show, every_s))
        return self

    def __exit__(self, *failure: Any) -> None:
        self._running.close()

    def report(self, stage: str, done: int = 0, total: int | None = None, note: str = "") -> None:
        """`done` of `total` units of a stage are done; it is over with all of them.

        Fewer than before are those of a new stage of the same name. Without a `total` the stage is
        named only, and over when another one is reported.
        """
        now = self._clock.now()
        with self._lock:
            self._stages = {
                name: other
                for name, other in self._stages.items()
                if name == stage or other.total is not None
            }
            known = self._stages.get(stage)
            if known is None or done < known.done:
                known = _Stage(total, now, done, self._rate.total, done)
                self._stages[stage] = known
            known.done, known.total, known.note = done, total, note
            if self._console.is_terminal:
                self._draw(stage, known, now)

    def ended(self, stage: str) -> None:
        """A stage without a total is over, before another one is reported."""
        with self._lock:
            self._stages.pop(stage, None)

    def sampled(self, num_tokens: int) -> None:
        """So many tokens were sampled."""
        self._rate.add(num_tokens)

    def say(self, line: str) -> None:
        """Print a line of its own."""
        self._console.print(line, markup=False, soft_wrap=True)

    def show(self) -> None:
        """Draw the bars anew, or print one line about the stages that are under way, if there are any."""
        now = self._clock.now()
        with self._lock:
            rate = self._rate.at(now)
            under_way = [(name, one) for name, one in self._stages.items() if not one.is_over]
            if self._console.is_terminal:
                for name, stage in under_way:
                    self._draw(name, stage, now)
            elif under_way:
                self.say(
                    " | ".join(self._line(name, stage, rate, now) for name, stage in under_way)
                )

    def _line(self, name: str, stage: _Stage, rate: float, now: float) -> str:
        """`problems: 3 of 720, 1,234 tokens/s, 2:10 so far, about 8:40:00 left; 45.0% right`."""
        parts = [name if stage.total is None else f"{name}: {stage.done:,} of {stage.total:,}"]
        if self._rate.total > stage.tokens_before:
            parts.append(rate_text(rate))
        parts.append(f"{clock_text(now - stage.began_at)} so far")
        if (left := stage.left_s(now)) is not None:
            parts.append(f"about {clock_text(left)} left")
        return ", ".join(parts) + (f"; {stage.note}" if stage.note else "")

    def _draw(self, name: str, stage: _Stage, now: float) -> None:
        if stage.total is None:
            return
        note = stage.note
        if self._rate.total > stage.tokens_before:
            note = f"{rate_text(self._rate.at(now))}  {note}"
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=stage.total, note="")
        self._bars.update(self._tasks[name], completed=stage.done, total=stage.total, note=note)
