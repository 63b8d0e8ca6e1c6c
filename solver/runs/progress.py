"""What a person sees while a run goes on, derived from events alone.

On a terminal: a line for each solved problem, below it a live table and the lanes and votes of what
is under way. Elsewhere: the lines only.
Ids and reasons are other people's text: they are shown escaped, and never read as markup.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from solver.config import SolverConfig
from solver.journal.events import (
    Checked,
    Ended,
    EngineIncident,
    Event,
    Forced,
    ProblemStarted,
    Sampled,
    Solved,
)
from solver.journal.summary import is_correct
from solver.runs.lanes import lane_strip, vote_bars
from solver.types import Problem, StopReason

_RATE_WINDOW_S = 10.0


def printable(text: str, limit: int = 80) -> str:
    """One harmless line: control characters escaped, the middle of a long text left out."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 13]} … {shown[-10:]}"


def solved_line(event: Solved, problem: Problem, position: str, modulus: int | None) -> str:
    """`[3/30] id: 17 (6 of 8), right, 1,234 tokens, 5.2 s`, and why it is degraded if it is."""
    won = event.votes.get(event.answer, 0)
    votes = f"{won} of {event.num_votes}" if event.num_votes else "no votes"
    parts = [f"{event.answer} ({votes})"]
    if problem.answer is not None:
        parts.append("right" if is_correct(event.answer, problem, modulus) else "wrong")
    parts += [f"{event.sampled_tokens:,} tokens", f"{event.elapsed_s:.1f} s"]
    line = f"[{position}] {printable(problem.id, 40)}: {', '.join(parts)}"
    if event.degraded:
        line += f"; degraded: {printable('; '.join(event.degraded), 160)}"
    return line


@dataclass(slots=True)
class ProblemView:
    """Where one problem stands."""

    launch: int
    ends: dict[int, Ended] = field(default_factory=dict)
    tokens: Counter[int] = field(default_factory=Counter)
    checked: Checked | None = None
    forced: bool = False

    @property
    def pruned(self) -> int:
        """How many were dropped at the check."""
        return len(self.checked.dropped) if self.checked else 0

    @property
    def finished(self) -> int:
        """How many stand still for good, by themselves."""
        return sum(
            end.stop_reason not in (StopReason.MARK, StopReason.PRUNED)
            for end in self.ends.values()
        )

    @property
    def alive(self) -> int:
        """How many may still sample."""
        return max(0, self.launch - self.pruned - self.finished)

    @property
    def stage(self) -> str:
        """The stage it is in: launch, check, resume, or vote once answers are forced or all are in."""
        if self.checked is None:
            return "check" if len(self.ends) >= self.launch else "launch"
        return "vote" if self.forced or self.alive == 0 else "resume"

    @property
    def votes(self) -> Counter[int]:
        """Answers of those that stand still for good."""
        return Counter(end.answer for end in self.ends.values() if end.answer is not None)


class Progress:
    """Feed it events with `show`; inside `with`, a terminal also gets the live table."""

    def __init__(
        self,
        problems: Sequence[Problem],
        config: SolverConfig,
        elapsed: Callable[[], float],
        console: Console,
        solved: Mapping[str, Solved],
    ) -> None:
        self._problems = {problem.id: problem for problem in problems}
        self._config = config
        self._elapsed = elapsed
        self._console = console
        self._taken_over = len(solved)
        self._done = len(solved)
        self._views: dict[str, ProblemView] = {}
        self._sampled: deque[tuple[float, int]] = deque()
        # The live table is drawn by a thread of its own, so that its clock runs between events.
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._table, transient=True, screen=False
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            self._take(event)
        if isinstance(event, Solved):
            position = f"{self._done}/{len(self._problems)}"
            modulus = self._config.answer.modulus
            self.say(solved_line(event, self._problems[event.problem_id], position, modulus))
        elif isinstance(event, EngineIncident):
            self.say(printable(event.what, 200))

    def say(self, line: str) -> None:
        """Print a line of its own, above the live table if there is one."""
        self._console.print(Text(line), soft_wrap=True)

    def _take(self, event: Event) -> None:
        if isinstance(event, ProblemStarted):
            self._views[event.problem_id] = ProblemView(self._config.prune.launch)
        elif isinstance(event, Solved):
            self._views.pop(event.problem_id, None)
            self._done += 1
        elif isinstance(event, Sampled | Ended | Checked | Forced):
            view = self._views.setdefault(event.problem_id, ProblemView(self._config.prune.launch))
            if isinstance(event, Sampled):
                self._sampled.append((event.t, len(event.token_ids)))
                view.tokens[event.index] += len(event.token_ids)
            elif isinstance(event, Ended):
                view.ends[event.index] = event
            elif isinstance(event, Checked):
                view.checked = event
            else:
                view.forced = True

    def _table(self) -> Group:
        with self._lock:
            now = self._elapsed()
            table = Table(box=None, pad_edge=False, header_style="dim")
            for name in ("problem", "stage", "alive", "finished", "pruned"):
                table.add_column(name)
            drawn = Table.grid(padding=(0, 2))
            for problem_id, view in self._views.items():
                counts = (view.alive, view.finished, view.pruned)
                cells = (printable(problem_id, 40), view.stage, *map(str, counts))
                table.add_row(*(Text(cell) for cell in cells))
                most = self._config.sampling.max_tokens
                strip = lane_strip(view.launch, view.tokens, view.ends, most)
                drawn.add_row(strip, vote_bars(view.votes))
            caption = (
                f"{self._done} of {len(self._problems)} solved, {self._rate(now):,.0f} tokens/s,"
                f" {self._time_left(now)}"
            )
            return Group(table, drawn, Text(caption))

    def _rate(self, now: float) -> float:
        while self._sampled and self._sampled[0][0] < now - _RATE_WINDOW_S:
            self._sampled.popleft()
        tokens = sum(count for _, count in self._sampled)
        return tokens / max(1.0, min(now, _RATE_WINDOW_S))

    def _time_left(self, now: float) -> str:
        limit = self._config.budget.time_limit_s
        if limit is not None:
            return f"{_clock(limit - now)} left of {_clock(limit)}"
        new = self._done - self._taken_over
        if not new:
            return f"{_clock(now)} so far"
        remaining = (len(self._problems) - self._done) * now / new
        return f"{_clock(now)} so far, about {_clock(remaining)} left"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
