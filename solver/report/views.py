"""What a report knows of a run: plain values, filled by `read.py` from the journal's events.

Times are seconds since the run began, resumed processes joined end to end; token counts are sampled
tokens. Texts are not here: a lane only knows the journal line it begins on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from solver.journal.events import Checked, RunStarted, Solved
from solver.types import NO_BALLOT, Ballot, StopReason

_BY_ITSELF = frozenset({StopReason.ANSWERED, StopReason.MAX_TOKENS, StopReason.MAX_TURNS})


class Call(NamedTuple):
    """A tool call: after how many sampled tokens, from when to when, and how it ended."""

    tokens: int
    began: float
    ended: float
    status: str


class Incident(NamedTuple):
    """What the engine lost, when, and on which line of the journal it says so."""

    t: float
    what: str
    line: int


@dataclass(slots=True)
class Lane:
    """One trajectory; `line` is the journal line on which it began, or began again."""

    index: int
    line: int
    began: float
    ended: float = 0.0
    tokens: int = 0
    calls: list[Call] = field(default_factory=list)
    marked: float | None = None  # when it stood at the mark
    resumed: float | None = None  # when it went on from there
    forced: int | None = None  # after how many tokens an answer was forced
    stop_reason: StopReason | None = None
    answer: int | None = None
    error: str | None = None

    @property
    def has_vote(self) -> bool:
        """Whether it stands still for good, in time to vote; the vote may still leave it out."""
        return self.stop_reason not in NO_BALLOT

    @property
    def ended_by_itself(self) -> bool:
        """Whether its answer, or that it has none, is its own doing: what a score predicts."""
        return self.stop_reason in _BY_ITSELF


@dataclass(slots=True)
class ProblemRecord:
    """One problem; its lines lie between the bytes `begin` and `end`, the first is `line`.

    `scored` is what a full recording's other scorers said at the run's mark, by name.
    """

    id: str
    begin: int
    line: int
    end: int = 0
    began: float = 0.0
    allotted_s: float | None = None
    lanes: dict[int, Lane] = field(default_factory=dict)
    checked: Checked | None = None
    scored: dict[str, dict[int, float]] = field(default_factory=dict)
    solved: Solved | None = None
    solved_at: float = 0.0

    @property
    def dropped(self) -> frozenset[int]:
        """Who was dropped at the check; in a full recording they went on all the same."""
        return frozenset(self.checked.dropped if self.checked else ())

    def scores(self, scorer: str) -> dict[int, float]:
        """What `scorer` said of whom at the run's mark."""
        if self.checked is not None and self.checked.method == scorer:
            return self.checked.scores
        return self.scored.get(scorer, {})

    @property
    def ballots(self) -> list[Ballot]:
        """The votes that were cast, in the order of sampled tokens."""
        dropped = self.dropped
        ballots = [
            Ballot(lane.index, lane.answer, lane.tokens)
            for lane in self.lanes.values()
            if lane.has_vote and lane.index not in dropped
        ]
        return sorted(ballots, key=lambda ballot: (ballot.num_sampled_tokens, ballot.index))


@dataclass(slots=True)
class RunRecord:
    """A whole run, as far as its journal goes. `unreadable` are lines that no event could be read from."""

    start: RunStarted | None = None
    problems: dict[str, ProblemRecord] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)
    resumed: int = 0
    elapsed: float = 0.0
    ended: bool = False
    interrupted: bool = False
    unreadable: int = 0
    first_unreadable: int = 0
