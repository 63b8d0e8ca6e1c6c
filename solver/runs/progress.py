"""What a person sees while a run goes on, derived from events alone.

On a terminal: a line for each solved problem, below it a live table and the lanes and votes of what
is under way. Elsewhere: these lines, and one at least every half minute that says how far the run is.
Ids and reasons are other people's text: they are shown escaped, and never read as markup.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from solver.cli.progress import TokenRate, clock_text, rate_text, repeating
from solver.clock import MonotonicClock
from solver.config import SolverConfig
from solver.journal.events import EngineIncident, Event, Solved
from solver.journal.history import ProblemHistory, RunHistory
from solver.journal.summary import is_correct
from solver.runs.lanes import lane_strip, vote_bars
from solver.types import Problem

if TYPE_CHECKING:
    from solver.distributed.crew import Member


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


@dataclass(frozen=True, slots=True)
class ProblemView:
    """Where one problem of `launch` trajectories stands."""

    launch: int
    history: ProblemHistory

    @property
    def pruned(self) -> int:
        """How many were dropped at the check."""
        return len(self.history.dropped)

    @property
    def finished(self) -> int:
        """How many stand still for good, by themselves."""
        return sum(one.stands_still for one in self.history.trajectories.values())

    @property
    def alive(self) -> int:
        """How many may still sample."""
        return max(0, self.launch - self.pruned - self.finished)

    @property
    def stage(self) -> str:
        """The stage it is in: launch, check, resume, or vote once answers are forced or all are in."""
        trajectories = self.history.trajectories.values()
        checks = self.history.checks
        if not checks:
            still = sum(one.stop_reason is not None for one in trajectories)
            return "check" if still >= self.launch else "launch"
        # One that was asked for an answer says nothing of the others.
        forced = any(
            one.forced is not None and one.index not in self.history.asked for one in trajectories
        )
        if forced or self.alive == 0:
            return "vote"
        at_mark = sum(bool(t.pauses) and t.pauses[-1].began > checks[-1].t for t in trajectories)
        return "check" if at_mark >= self.alive else "resume"

    @property
    def votes(self) -> Counter[int]:
        """Answers of those that vote."""
        return Counter(b.answer for b in self.history.ballots if b.answer is not None)


class Progress:
    """Feed it events with `show`, and `sampled` with tokens; inside `with`, it says where the run is."""

    def __init__(
        self,
        problems: Sequence[Problem],
        config: SolverConfig,
        elapsed: Callable[[], float],
        console: Console,
        history: RunHistory,
    ) -> None:
        """`history` is the run's so far, and is kept up to date with what is shown."""
        self._problems = {problem.id: problem for problem in problems}
        self._config = config
        self._elapsed = elapsed
        self._console = console
        self._history = history
        self._taken_over = self._done = len(history.problems)
        self._under_way: dict[str, ProblemHistory] = {}
        self._rate = TokenRate(elapsed())
        self.members: Sequence[Member] = ()  # of a run on a cluster
        # The live table is drawn by a thread of its own, so that its clock runs between events.
        self._lock = threading.Lock()
        self._running = ExitStack()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._running.enter_context(
                Live(
                    console=self._console, get_renderable=self._table, transient=True, screen=False
                )
            )
        elif not self._console.quiet:
            self._running.enter_context(repeating(self.say_where))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

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

    def sampled(self, num_tokens: int) -> None:
        """So many tokens were sampled."""
        self._rate.add(num_tokens)

    def say_where(self) -> None:
        """Print how many problems are solved, the tokens a second and the time."""
        with self._lock:
            line = self._caption()
        self.say(line)

    def _take(self, event: Event) -> None:
        problem = self._history.apply(event)
        if problem is None:
            return
        if problem.solved is None:
            self._under_way[problem.id] = problem
            return
        self._under_way.pop(problem.id, None)
        problem.trajectories.clear()  # only its answer matters from here on
        self._done += 1

    def _table(self) -> Group:
        with self._lock:
            table = Table(box=None, pad_edge=False, header_style="dim")
            for name in ("problem", "stage", "alive", "finished", "pruned"):
                table.add_column(name)
            drawn = Table.grid(padding=(0, 2))
            for problem_id, problem in self._under_way.items():
                view = ProblemView(problem.launch or self._config.prune.launch, problem)
                counts = (view.alive, view.finished, view.pruned)
                cells = (printable(problem_id, 40), view.stage, *map(str, counts))
                table.add_row(*(Text(cell) for cell in cells))
                most = self._config.sampling.max_tokens
                strip = lane_strip(view.launch, problem.trajectories, most)
                drawn.add_row(strip, vote_bars(view.votes))
            actors = [self._actors()] if self.members else []
            return Group(table, drawn, *actors, Text(self._caption()))

    def _actors(self) -> Table:
        """A row an actor of the cluster."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("actor", "state", "problem", "tokens/s", "restarts"):
            table.add_column(name)
        for member in self.members:
            rate = f"{member.rate.at(MonotonicClock().now()):,.0f}"
            at_work = ", ".join(member.units)
            cells = (member.where, member.state, at_work, rate, str(member.restarts))
            table.add_row(*(Text(printable(cell, 40)) for cell in cells))
        return table

    def _caption(self) -> str:
        now = self._elapsed()
        actors = ""
        if self.members:
            num_open = sum(member.is_open for member in self.members)
            actors = f" {num_open} of {len(self.members)} actors,"
        return (
            f"{self._done} of {len(self._problems)} solved, {rate_text(self._rate.at(now))},{actors}"
            f" {self._time_left(now)}"
        )

    def _time_left(self, now: float) -> str:
        limit = self._config.budget.time_limit_s
        if limit is not None:
            return f"{clock_text(limit - now)} left of {clock_text(limit)}"
        new = self._done - self._taken_over
        if not new:
            return f"{clock_text(now)} so far"
        remaining = (len(self._problems) - self._done) * now / new
        return f"{clock_text(now)} so far, about {clock_text(remaining)} left"
