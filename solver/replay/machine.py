"""A simulated machine: streams share an engine, calls share the tools, as `Speeds` says.

All streams sample at the same rate, so one counter of steps tells where each of them is; all calls
work at the same rate, so one counter of seconds of work is enough for them. The clock jumps from event to
event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from solver.replay.problem import Path
from solver.replay.speeds import Speeds


@dataclass(slots=True)
class Runner:
    """A simulated trajectory: the leg it is in, and the tokens sampled in that leg and in all."""

    path: Path
    encoded: int  # ids to encode before it first samples
    goal: int | None = None  # sampled tokens at which it waits
    leg: int = 0
    in_leg: int = 0
    sampled: int = 0
    finished: bool = False
    stretch: int = 0  # tokens still to come of the request that is running
    began: float = 0.0  # steps of the engine when these began

    @property
    def place(self) -> tuple[int, int]:
        """(tokens sampled, index), as the vote orders them."""
        return self.sampled, self.path.index

    def take(self, tokens: int) -> None:
        """Count tokens that were sampled."""
        self.sampled += tokens
        self.in_leg += tokens
        self.stretch -= tokens
        self.began += tokens


class Machine:
    """`now` is in seconds since the problem began; nothing happens after `deadline`."""

    def __init__(self, speeds: Speeds, deadline: float) -> None:
        self.now = 0.0
        self._speeds, self._deadline = speeds, deadline
        self._steps = 0.0  # of the engine
        self._work = 0.0  # seconds of work done by a call that ran all the time
        self._owed_s = 0.0  # seconds of encoding to be done before sampling goes on
        self._sampling: list[tuple[float, int]] = []  # heaps of (when done, index)
        self._calling: list[tuple[float, int]] = []
        self._runners: dict[int, Runner] = {}

    def wait(self, seconds: float) -> None:
        """Advance the clock by `seconds` in which no trajectory samples."""
        self.now = min(self.now + seconds, max(self.now, self._deadline))

    def run(self, runners: Iterable[Runner], until: Callable[[], bool] = lambda: False) -> bool:
        """Advance all runners to their goals or ends; False if the deadline came first.

        `until` is called now and whenever one ends, and stops the simulation when it returns True. Tokens
        sampled by then are counted for every runner.
        """
        self._runners = {runner.path.index: runner for runner in runners}
        self._sampling, self._calling, self._owed_s = [], [], 0.0
        if until():
            return True
        for runner in self._runners.values():
            self._go_on(runner)
        return self._until_all_stand(until)

    def _until_all_stand(self, until: Callable[[], bool]) -> bool:
        while self._sampling or self._calling:
            seconds, index = self._next_event()
            if self.now + seconds >= self._deadline:
                self._pass(max(0.0, self._deadline - self.now))
                self._count()
                return False
            self._pass(seconds)
            if self._arrived(index):
                self._count()
                if until():
                    return True
        return True

    def _next_event(self) -> tuple[float, int]:
        """Seconds until the next request or call is done, and the index of its trajectory."""
        request_s = call_s = inf
        if self._sampling:
            request_s = self._owed_s + (self._sampling[0][0] - self._steps) * self._step_s
        if self._calling:
            call_s = (self._calling[0][0] - self._work) / self._rate
        first = self._sampling if request_s <= call_s else self._calling
        return max(0.0, min(request_s, call_s)), first[0][1]

    @property
    def _step_s(self) -> float:
        return self._speeds.step(len(self._sampling), len(self._calling))

    @property
    def _rate(self) -> float:
        return self._speeds.tool_rate(len(self._calling))

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        if self._calling:
            self._work += seconds * self._rate
        if self._sampling:
            encoding = min(self._owed_s, seconds)
            self._owed_s -= encoding
            self._steps += (seconds - encoding) / self._step_s

    def _arrived(self, index: int) -> bool:
        """Move the runner from its heap to its next leg; whether it has ended."""
        runner = self._runners[index]
        if self._sampling and self._sampling[0][1] == index:
            self._steps, _ = heappop(self._sampling)
            runner.take(runner.stretch)
            if runner.sampled == runner.goal:
                return False
            return self._after_leg(runner)
        self._work, _ = heappop(self._calling)
        return self._next_leg(runner)

    def _go_on(self, runner: Runner) -> bool:
        leg = runner.path.legs[runner.leg]
        left = leg.tokens - runner.in_leg
        if left <= 0:
            return self._after_leg(runner)
        if runner.goal is not None:
            left = min(left, runner.goal - runner.sampled)
        self._owed_s += runner.encoded * self._speeds.encoded_s
        runner.encoded = 1  # when it resumes: the last id before a pause was never read
        runner.stretch, runner.began = left, self._steps
        heappush(self._sampling, (self._steps + left, runner.path.index))
        return False

    def _after_leg(self, runner: Runner) -> bool:
        work_s = runner.path.legs[runner.leg].work_s
        if work_s is None:
            return self._next_leg(runner)
        heappush(self._calling, (self._work + work_s, runner.path.index))
        return False

    def _next_leg(self, runner: Runner) -> bool:
        if runner.leg + 1 == len(runner.path.legs):
            runner.finished = True
            return True
        runner.leg, runner.in_leg = runner.leg + 1, 0
        runner.encoded = runner.path.legs[runner.leg].encoded
        return self._go_on(runner)

    def _count(self) -> None:
        """Count the whole tokens of requests that are running."""
        for _, index in self._sampling:
            runner = self._runners[index]
            runner.take(min(runner.stretch, int(self._steps - runner.began)))
