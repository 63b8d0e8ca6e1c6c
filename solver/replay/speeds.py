"""The speeds of a machine: how long an engine's step takes, and how tools slow each other down.

An engine's step takes `step_s + token_s * streams`. With k tool calls running, each works at the rate
k ** -crowding, and the engine is slower by `tool_s` for each second of their work (kernels and engine
may share cores).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Speeds:
    """The simulated machine. All in seconds; `check_s` is a scorer's time for one prefix."""

    step_s: float  # of an engine's step, however many streams
    token_s: float  # more for each stream
    encoded_s: float  # for each encoded id
    tool_s: float  # for each second of work that tools do beside the engine
    crowding: float  # 0: tools do not disturb each other, 1: they share one core
    check_s: dict[str, float] = field(default_factory=dict)
    load_s: float = 0.0  # before the first problem
    before_s: float = 0.0  # of a problem, before it samples
    after_s: float = 0.0  # of a problem, after its last trajectory ended
    write_s: float = 0.0  # of an answer, until the next problem begins

    def step(self, streams: int, tools: int) -> float:
        """Seconds a token of each of `streams`, while `tools` calls are running."""
        seconds = self.step_s + self.token_s * streams
        if not tools:
            return seconds
        # tools do tools * tools**-crowding seconds of work a second
        return seconds / max(0.05, 1 - self.tool_s * float(tools ** (1 - self.crowding)))

    def tool_rate(self, tools: int) -> float:
        """Seconds of work that one of `tools` running calls does in a second."""
        return float(tools**-self.crowding)
