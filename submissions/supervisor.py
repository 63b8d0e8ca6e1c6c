"""Supervises the worker process: starts it, reads its messages, kills it when silent, restarts it.

When a worker is lost, the next one gets the problem with the time that is left. Every wait here ends at
its deadline, whatever the worker does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from solver.errors import named
from submissions.child import Child
from submissions.outcome import Outcome, WorkerLimits
from submissions.protocol import Done, Message, Ready, Refused, Task, VoteSoFar

MAX_LOSSES = 3  # workers lost on one problem, after which it is given up
MAX_FAILED_STARTS = 5  # in a row
_MAX_PAUSE_S = 30.0
_STEP_S, _PAUSE_S = 0.05, 1.0

Spawn = Callable[[Callable[[Child, Message], None], Callable[[Child], None]], Child]


class Supervisor:
    """Call `start`, then `solve` for each task, then `close`.

    `given_up` is the reason why no worker is started any more, None while one is.
    """

    def __init__(self, spawn: Spawn, say: Callable[[str], None], limits: WorkerLimits) -> None:
        self._spawn, self._say, self._limits = spawn, say, limits
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._child: Child | None = None
        self._ready = self._was_ready = self._ended = self._closing = False
        self._started = self._last_message_s = 0.0
        self._task: Task | None = None
        self._sent: Task | None = None  # the last task this worker was given and has not answered
        self._losses = 0
        self._outcome = Outcome()
        self._lost_s = 0.0
        self._down_since: float | None = None
        self.given_up: str | None = None

    def start(self) -> None:
        """Start a worker in the background."""
        self._thread.start()

    def give_up(self, why: str) -> None:
        """Start no more workers: every task gets its best vote at once."""
        with self._changed:
            self.given_up = why
            self._changed.notify_all()

    def close(self) -> None:
        """End the worker and everything below it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def lost_s(self) -> float:
        """Seconds without a worker that answered, since the first one was ready."""
        with self._changed:
            down = 0.0 if self._down_since is None else time.monotonic() - self._down_since
            return self._lost_s + down

    def wait_ready(self, until: float) -> bool:
        """Wait until a worker has loaded the model, at most until `until` (monotonic seconds)."""
        with self._changed:
            self._wait(lambda: self._ready or self.given_up is not None, until)
            return self._ready

    def solve(self, task: Task, until: float) -> Outcome:
        """Solve a task; at `until` (monotonic seconds) the outcome is the best vote so far."""
        with self._changed:
            self._task, self._losses, self._outcome = task, 0, Outcome()
            self._changed.notify_all()
            self._wait(self._settled, until)
            outcome, self._task = self._outcome, None
            if outcome.solved is None:
                outcome.notes.append(self._why_unsolved())
            return outcome

    def _settled(self) -> bool:
        return (
            self._outcome.solved is not None
            or self._losses >= MAX_LOSSES
            or self.given_up is not None
        )

    def _why_unsolved(self) -> str:
        if self.given_up is not None:
            return f"no solver: {self.given_up}"
        if self._losses >= MAX_LOSSES:
            return f"given up after {self._losses} solvers were lost"
        return "time is up" if self._ready else "time is up, the solver was not ready"

    def _wait(self, condition: Callable[[], bool], until: float) -> None:
        while not condition() and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)

    def _supervise(self) -> None:
        failed_starts = 0
        try:
            while not self._closing and self.given_up is None:
                why = self._run_worker()
                with self._changed:
                    failed_starts = 0 if self._ready else failed_starts + 1
                    self._record_loss(why, failed_starts)
                    pause = min(_MAX_PAUSE_S, 2.0 ** (failed_starts - 1)) if failed_starts else 0.0
                    self._wait(lambda: self._closing, time.monotonic() + pause)
        except Exception as error:  # without this thread no task would ever be answered
            self.give_up(named(error))

    def _run_worker(self) -> str:
        """Start a worker and give it tasks until it fails or is closed; returns the reason."""
        with self._changed:
            self._ready = self._ended = False
            self._sent = None
            try:
                self._child = child = self._spawn(self._receive, self._on_end)
            except (OSError, RuntimeError) as error:  # no processes, threads or memory left
                return f"cannot be started: {error}"
            self._started = self._last_message_s = looked_at = now = time.monotonic()
            while (why := self._failure_reason(now)) is None:
                if self._ready and self._task not in (None, self._sent) and not self._settled():
                    self._sent = self._task
                    child.send(self._task)
                self._changed.wait(_STEP_S)
                now = time.monotonic()
                if now - looked_at > _PAUSE_S:
                    # This process itself was stopped: what the worker said meanwhile is still unread.
                    self._last_message_s = min(now, self._last_message_s + now - looked_at)
                looked_at = now
        if left := child.end():
            self._say(f"cannot be killed: {', '.join(left)}")
        return f"{why}: {child.last_words}" if self._ended and child.last_words else why

    def _failure_reason(self, now: float) -> str | None:
        if self._closing:
            return "closed"
        if self.given_up is not None:
            return self.given_up
        if self._ended:
            return "crashed" if self._ready else "crashed while it started"
        if not self._ready:
            late = now - self._started > self._limits.start_s
            return f"not ready after {self._limits.start_s:.0f} s" if late else None
        current = self._sent or self._task
        silence = self._limits.silence(current.allotted_s if current else 0.0)
        if now - self._last_message_s > silence:
            return f"silent for {now - self._last_message_s:.1f} s"
        if self._sent is not None and now - self._sent.deadline > silence:
            return f"late by {now - self._sent.deadline:.1f} s"
        return None

    def _record_loss(self, why: str, failed_starts: int) -> None:
        if failed_starts >= MAX_FAILED_STARTS and self.given_up is None:
            self.given_up = f"it failed to start {failed_starts} times, the last time: {why}"
        if self._ready:
            self._down_since = self._last_message_s
        self._child, self._ready = None, False
        if self._closing:
            return
        self._say(f"the solver was lost: {why}")
        if self._task is not None:
            self._losses += 1
            self._outcome.notes.append(f"solver lost: {why}")
        self._changed.notify_all()

    def _receive(self, child: Child, message: Message) -> None:
        with self._changed:
            if child is not self._child:
                return
            self._last_message_s = time.monotonic()
            if isinstance(message, Ready):
                self._ready = self._was_ready = True
                if self._down_since is not None:
                    self._lost_s += self._last_message_s - self._down_since
                    self._down_since = None
            elif isinstance(message, Refused):
                if self._was_ready:  # what it needs was there before: a start that failed
                    self._say(f"the solver did not start: {message.message}")
                else:
                    self.given_up = message.message
            elif isinstance(message, VoteSoFar):
                if self._task is not None and message.problem_id == self._task.problem_id:
                    self._outcome.best = message.answer
            elif isinstance(message, Done):
                if self._sent is not None and message.solved.problem_id == self._sent.problem_id:
                    self._sent = None
                if self._task is not None and message.solved.problem_id == self._task.problem_id:
                    self._outcome.solved = message.solved
            self._changed.notify_all()

    def _on_end(self, child: Child) -> None:
        with self._changed:
            if child is self._child:
                self._ended = True
                self._changed.notify_all()
