"""What a journal says, as state: the one place where events become trajectories, problems and a run.

Resume, replay, reports, the live view and the vote of a problem under way read this state, and no
event but here. Events are applied one at a time, from a file or as they happen. Token ids are kept on
request only, so that a long run without them fits into little memory.

Times are seconds since the run began, over all of its processes: the clock of a later one goes on
where the one before it was last heard of. Token counts are those of sampled tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from solver.journal.events import (
    Checked,
    Crowded,
    Ended,
    EngineIncident,
    Event,
    Executed,
    Forced,
    ProblemStarted,
    RunEnded,
    RunResumed,
    RunStarted,
    Sampled,
    Scored,
    Solved,
)
from solver.journal.reader import BEGINNING, JournalReader, Line
from solver.policy.prune import last_scores
from solver.policy.seeds import trajectory_seed
from solver.types import (
    BEGINS_AGAIN,
    NO_BALLOT,
    NO_EVIDENCE,
    Ballot,
    Evidence,
    Problem,
    StopReason,
    Trajectory,
    Turn,
)

TrajectoryEvent = Sampled | Executed | Forced | Ended
ProblemEvent = (
    TrajectoryEvent | ProblemStarted | Checked | Crowded | Scored | Solved
)  # the many first

_BY_ITSELF = frozenset({StopReason.ANSWERED, StopReason.MAX_TOKENS, StopReason.MAX_TURNS})
_STANDS_STILL = frozenset(StopReason) - {StopReason.MARK, StopReason.PRUNED}


@dataclass(slots=True)
class Span:
    """A request for tokens or a tool call: from when to when."""

    started: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass(slots=True)
class Request(Span):
    """Tokens sampled in the turn `turn`; the engine had to encode `encoded_tokens` ids first."""

    line: int  # of the journal
    turn: int
    num_tokens: int
    encoded_tokens: int


@dataclass(slots=True)
class Call(Span):
    """A tool call: after how many sampled tokens of its trajectory, and how it ended."""

    num_tokens: int
    status: str


@dataclass(slots=True)
class Pause:
    """A trajectory that stands at a mark: since when, and when it went on from there, if it did."""

    began: float
    ended: float | None = None


class Incident(NamedTuple):
    """What the engine lost, when, and on which line of the journal it says so."""

    t: float
    what: str
    line: int


@dataclass(slots=True)
class TokenRecord:
    """What a history keeps of a trajectory beside its state if ids are asked for.

    `call_lines` are the journal's lines of its calls; each of `mark_places` is a turn and how many of its
    ids stand before a mark.
    """

    trajectory: Trajectory
    requests: list[Request] = field(default_factory=list)
    call_lines: list[int] = field(default_factory=list)
    mark_places: list[tuple[int, int]] = field(default_factory=list)

    def apply(self, event: TrajectoryEvent, line: int) -> None:
        """Take in the next event, which stands on `line` of the journal."""
        turn = len(self.trajectory.turns) - 1
        if isinstance(event, Sampled):
            num, encoded = len(event.token_ids), event.encoded_tokens
            self.requests.append(Request(event.started, event.t, line, turn, num, encoded))
        elif isinstance(event, Executed):
            self.call_lines.append(line)
        elif isinstance(event, Ended) and event.stop_reason is StopReason.MARK:
            self.mark_places.append((turn, len(self.trajectory.turns[turn].token_ids)))
        apply_event(self.trajectory, event)


@dataclass(slots=True)
class TrajectoryHistory:
    """One trajectory; `line` is the journal line on which it began, or began again.

    `tokens` is there if ids are kept.
    """

    index: int
    line: int
    began: float
    last: float = 0.0  # when it was last heard of
    ended: float | None = None  # when it last stood still: at a mark, or for good
    num_tokens: int = 0
    calls: list[Call] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)  # at the marks that it reached
    forced: int | None = None  # after how many tokens an answer was forced
    stop_reason: StopReason | None = None
    answer: int | None = None
    error: str | None = None
    evidence: Evidence = NO_EVIDENCE
    tokens: TokenRecord | None = None

    @property
    def record(self) -> TokenRecord:
        """Its tokens, where ids are kept."""
        assert self.tokens is not None, "ids are not kept in this history"
        return self.tokens

    @property
    def trajectory(self) -> Trajectory:
        """What it was in the run, token by token."""
        return self.record.trajectory

    @property
    def requests(self) -> list[Request]:
        """Its requests for tokens, in order."""
        return self.record.requests

    @property
    def ballot(self) -> Ballot:
        """Its vote, if it has one."""
        return Ballot(self.index, self.answer, self.num_tokens, evidence=self.evidence)

    @property
    def stands_still(self) -> bool:
        """Whether it ended for good, and was not dropped at the check."""
        return self.stop_reason in _STANDS_STILL

    @property
    def ended_by_itself(self) -> bool:
        """Whether its answer, or that it has none, is its own doing: what a score predicts."""
        return self.stop_reason in _BY_ITSELF

    def apply(self, event: TrajectoryEvent, line: int) -> None:
        """Become what it was when it wrote `event`."""
        self.last = event.t
        if isinstance(event, Sampled):
            if self.pauses and self.pauses[-1].ended is None:
                self.pauses[-1].ended = event.started
            self.num_tokens += len(event.token_ids)
        elif isinstance(event, Executed):
            status = event.result.status.value
            self.calls.append(Call(event.started, event.t, self.num_tokens, status))
        elif isinstance(event, Forced):
            self.forced = self.num_tokens
        else:
            self.ended, self.num_tokens = event.t, event.num_sampled_tokens
            self.stop_reason, self.answer, self.error = event.stop_reason, event.answer, event.error
            self.evidence = event.evidence
            if event.stop_reason is StopReason.MARK:
                self.pauses.append(Pause(event.t))
        if self.tokens is not None:
            self.tokens.apply(event, line)

    def drop(self) -> None:
        """Stand as one that the check dropped, whatever came of it."""
        self.stop_reason = StopReason.PRUNED
        if self.tokens is not None:
            self.tokens.trajectory.stop_reason = StopReason.PRUNED


def apply_event(trajectory: Trajectory, event: TrajectoryEvent) -> None:
    """Let a trajectory become, token by token, what it was in the run when it wrote `event`."""
    turn = trajectory.turns[-1]
    if isinstance(event, Sampled):
        turn.token_ids += event.token_ids
        turn.logprobs += event.logprobs
        turn.confidences += event.confidences or ()
        turn.entropies += event.entropies or ()
        trajectory.reused_tokens += event.reused_tokens
        trajectory.encoded_tokens += event.encoded_tokens
    elif isinstance(event, Executed):
        turn.tool_call, turn.execution = event.code, event.result
        turn.appended_token_ids = tuple(event.appended_token_ids)
        trajectory.turns.append(Turn())
    elif isinstance(event, Forced):
        turn.appended_token_ids += tuple(event.appended_token_ids)
        trajectory.turns.append(Turn())
    else:
        trajectory.stop_reason = event.stop_reason
        trajectory.answer, trajectory.error = event.answer, event.error
        trajectory.evidence = event.evidence


@dataclass(slots=True)
class ProblemHistory:
    """One problem; its lines lie between the bytes `begin` and `end`, the first is `line`.

    `asked` is what trajectories answered, by index, that had ended their turn without an answer and were
    asked for it. `scored` is what a full recording's scorers said, at every mark. `solved` is None as long
    as it is under way.
    """

    problem: Problem
    keep_ids: bool = False
    run_seed: int = 0  # of the seeds of kept trajectories
    line: int = 0
    begin: int = 0
    end: int = 0
    started: float = 0.0
    allotted_s: float | None = None
    launch: int | None = None  # where the journal says it
    prompt_token_ids: tuple[int, ...] = ()  # where ids are kept
    trajectories: dict[int, TrajectoryHistory] = field(default_factory=dict)
    asked: dict[int, int | None] = field(default_factory=dict)
    checks: list[Checked] = field(default_factory=list)
    crowded: list[Crowded] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    solved: Solved | None = None
    _earlier: frozenset[int] = frozenset()  # ended in an earlier process, and did not begin anew

    @property
    def id(self) -> str:
        """The problem's."""
        return self.problem.id

    @property
    def dropped(self) -> frozenset[int]:
        """Who was dropped at a check or for room; in a full recording they went on all the same."""
        checked = (index for checked in self.checks for index in checked.dropped)
        return frozenset([*checked, *(one.index for one in self.crowded)])

    @property
    def last_scores(self) -> dict[int, float]:
        """Each trajectory's score at the last mark where it was scored: what its ballot weighs by."""
        return last_scores(self.checks)

    def scores(self, scorer: str, mark: int) -> dict[int, float]:
        """What `scorer` said of whom at `mark`, one of the run's."""
        for checked in self.checks:
            if checked.method == scorer and checked.mark in (None, mark):
                return checked.scores
        said = [one.scores for one in self.scored if (one.scorer, one.mark) == (scorer, mark)]
        return said[-1] if said else {}

    @property
    def voters(self) -> list[TrajectoryHistory]:
        """Those whose ballots count as far as it goes, in the order of sampled tokens."""
        dropped = self.dropped
        cast = [
            t
            for t in self.trajectories.values()
            if t.stop_reason not in NO_BALLOT and t.index not in dropped
        ]
        return sorted(cast, key=lambda t: (t.num_tokens, t.index))

    @property
    def ballots(self) -> list[Ballot]:
        """The votes that were cast, in the order of sampled tokens."""
        return [t.ballot for t in self.voters]

    def apply(self, event: ProblemEvent, line: int = 0) -> None:
        """Take in the next event of this problem, which stands on `line` of the journal."""
        if isinstance(event, TrajectoryEvent):
            if isinstance(event, Forced) and event.asked:
                self.asked[event.index] = None
            elif isinstance(event, Ended) and event.index in self.asked:
                self.asked[event.index] = event.answer
            self._trajectory(event, line).apply(event, line)
        elif isinstance(event, ProblemStarted):
            self.begin_again()
            self.started, self.allotted_s = event.t, event.allotted_s
            self.launch = event.launch
            if self.keep_ids:
                self.prompt_token_ids = tuple(event.prompt_token_ids)
        elif isinstance(event, Checked):
            self.checks.append(event)
        elif isinstance(event, Crowded):
            self.crowded.append(event)
        elif isinstance(event, Scored):
            self.scored.append(event)
        else:
            self.solved = event

    def begin_again(self) -> None:
        """A process goes on with it: what had ended for good stays, what was under way begins anew.

        Its kernels are gone, and since a draw belongs to a token's place it comes to the same tokens.
        Who was dropped stays dropped.
        """
        for index in self.dropped & self.trajectories.keys():
            self.trajectories[index].drop()
        self.trajectories = {
            index: t for index, t in self.trajectories.items() if t.stop_reason not in BEGINS_AGAIN
        }
        self._earlier = frozenset(self.trajectories)
        self.asked = {index: a for index, a in self.asked.items() if index in self.trajectories}
        self.checks, self.crowded, self.scored = [], [], []

    def finished_trajectories(self) -> list[Trajectory]:
        """Those that a process that goes on with it need not run again, by index; ids must be kept."""
        return [self.trajectories[index].trajectory for index in sorted(self.trajectories)]

    def _trajectory(self, event: TrajectoryEvent, line: int) -> TrajectoryHistory:
        index = event.index
        if index in self._earlier:  # it was run anew all the same
            self._earlier -= {index}
            del self.trajectories[index]
        if index not in self.trajectories:
            began = event.t if isinstance(event, Forced | Ended) else event.started
            one = self.trajectories[index] = TrajectoryHistory(index, line, began)
            if self.keep_ids:
                seed = trajectory_seed(self.run_seed, self.id, index)
                trajectory = Trajectory(self.id, index, seed, self.prompt_token_ids)
                one.tokens = TokenRecord(trajectory)
        return self.trajectories[index]


class RunHistory:
    """A run as far as its journal goes; feed it events with `apply`.

    `problems` are in the order in which they were begun. `end` is the last event of a run that has
    ended, None while it goes on or if it was killed.
    """

    def __init__(self, problems: Iterable[Problem] = (), *, keep_ids: bool = False) -> None:
        """`problems` are those of the run's file, as far as they matter beyond their ids."""
        self.start: RunStarted | None = None
        self.end: RunEnded | None = None
        self.problems: dict[str, ProblemHistory] = {}
        self.incidents: list[Incident] = []
        self.num_resumed = 0
        self.elapsed = 0.0
        self._before = 0.0  # seconds of earlier processes
        self._asked = {problem.id: problem for problem in problems}
        self._keep_ids = keep_ids

    def apply(self, event: Event, line: Line = BEGINNING) -> ProblemHistory | None:
        """Take in the next event; returns the problem that it belongs to, if it belongs to one."""
        if isinstance(event, RunResumed):
            self._before = self.elapsed
            self.num_resumed += 1
        event = _later(event, self._before)
        self.elapsed = max(self.elapsed, event.t)
        self.end = None
        if isinstance(event, ProblemEvent):
            problem = self.problems.get(event.problem_id) or self._begin(event, line)
            problem.end = line.end
            problem.apply(event, line.number)
            return problem
        if isinstance(event, RunStarted):
            self.start = event
        elif isinstance(event, EngineIncident):
            self.incidents.append(Incident(event.t, event.what, line.number))
        elif isinstance(event, RunEnded):
            self.end = event
        return None

    def read(self, reader: JournalReader) -> bool:
        """Take in what `reader` has not read yet; whether there was a whole line of it.

        Raises what the reader raises.
        """
        before = reader.position
        for event, line in reader.events():
            self.apply(event, line)
        return reader.position > before

    def _begin(self, event: ProblemEvent, line: Line) -> ProblemHistory:
        problem = ProblemHistory(
            self._asked.get(event.problem_id) or Problem(event.problem_id, ""),
            self._keep_ids,
            self.start.config.seed if self.start is not None else 0,
            line=line.number,
            begin=line.begin,
            started=event.t,
            # an answer without a beginning: there was no time left for it
            allotted_s=0.0 if isinstance(event, Solved) else None,
        )
        self.problems[event.problem_id] = problem
        return problem


def on_one_clock(events: Iterable[Event]) -> Iterator[Event]:
    """The events of a journal as if one process had written them, without first and last lines."""
    elapsed = before = 0.0
    for event in events:
        if isinstance(event, RunResumed):
            before = elapsed
        moved = _later(event, before)
        elapsed = max(elapsed, moved.t)
        if not isinstance(moved, RunStarted | RunResumed | RunEnded):
            yield moved


def _later(event: Event, seconds: float) -> Event:
    if not seconds:
        return event
    moved = {"t": event.t + seconds}
    if isinstance(event, Sampled | Executed | Checked | Scored):
        moved["started"] = event.started + seconds
    return event.model_copy(update=moved)


def history_of(events: Iterable[Event], problem_id: str, run_seed: int) -> ProblemHistory:
    """What is left of a problem for a process that goes on with it; `events` may have others'."""
    history = ProblemHistory(Problem(problem_id, ""), keep_ids=True, run_seed=run_seed)
    for event in events:
        if isinstance(event, ProblemEvent) and event.problem_id == problem_id:
            history.apply(event)
    history.begin_again()
    return history
