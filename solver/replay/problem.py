"""A recorded problem made ready for replays: paths of its trajectories, who waits at a mark, scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from solver.cli.python import python
from solver.config import SolverConfig, VoteConfig, VoteRule
from solver.errors import InputError, ScorerError
from solver.journal.history import ProblemHistory, TrajectoryHistory
from solver.journal.recorded_run import RecordedRun
from solver.journal.summary import is_correct
from solver.policy.prefix import own_tokens, prefix_at
from solver.policy.weights import BY_CANDIDATES, BY_EVIDENCE, evidence_for, evidence_of, weigh
from solver.replay.flows import tool_work
from solver.scorers import ScorerDeclaration, find_scorer
from solver.types import NO_EVIDENCE, Ballot, PruneReason, StopReason, Trajectory

_OWN_ENDS = frozenset(
    {StopReason.ANSWERED, StopReason.MAX_TOKENS, StopReason.MAX_TURNS, StopReason.ERROR}
)


_HOW_TO_RECORD: dict[VoteRule, str] = dict.fromkeys(
    BY_CANDIDATES, "record with --record full, on an engine that tells of candidates"
) | {
    "verified": "record with --record full and an adapter of the last check, --set vote.adapter=FOLDER"
}


class NotRecorded(InputError):
    """A policy needs what the journal does not hold; the message says what to record."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One turn: `encoded` ids first, then `tokens` sampled, then `work_s` seconds of a tool, if any."""

    encoded: int
    tokens: int
    work_s: float | None


@dataclass(frozen=True, slots=True)
class Path:
    """A trajectory to its end. `complete`: it came to its own end, so its ballot is known."""

    index: int
    legs: tuple[Leg, ...]
    ballot: Ballot
    complete: bool
    right: bool


class ReplayProblem:
    """One problem of a recording. Scores are found once and kept."""

    def __init__(
        self, history: ProblemHistory, config: SolverConfig, crowding: float = 0.0
    ) -> None:
        """`crowding` is that of `Speeds`: recorded tool calls disturbed each other by it."""
        self.history = history
        self.id, self.known_answer = history.id, history.problem.answer
        self._config = config
        work = tool_work(history, crowding)
        self.paths: Mapping[int, Path] = {
            index: self._path(trajectory, work)
            for index, trajectory in sorted(history.trajectories.items())
        }
        self._prefixes: dict[int, dict[int, Trajectory]] = {}
        self._recorded: dict[tuple[str, int], Mapping[int, float] | None] = {}
        self._computed: dict[tuple[str, int, tuple[int, ...]], Mapping[int, float]] = {}

    @property
    def indices(self) -> tuple[int, ...]:
        """The recorded trajectories."""
        return tuple(self.paths)

    @property
    def most_tokens(self) -> int:
        """What a trajectory may sample at most."""
        return self._config.sampling.max_tokens

    @property
    def expected(self) -> int | None:
        """The known answer as a vote gives it, after the modulus; None if it is not known."""
        modulus = self._config.answer.modulus
        if self.known_answer is None or modulus is None:
            return self.known_answer
        return self.known_answer % modulus

    def right(self, answer: int | None) -> bool:
        """Whether `answer` is the problem's; False if that is unknown."""
        if answer is None:
            return False
        return is_correct(answer, self.history.problem, self._config.answer.modulus)

    def waiting(self, indices: Sequence[int], mark: int) -> list[int]:
        """Who of `indices` would stand at `mark`, in order; the others end before."""
        standing = self._standing(mark)
        return [index for index in sorted(indices) if index in standing]

    def scores(self, scorer: str, mark: int, indices: Sequence[int]) -> Mapping[int, float] | None:
        """Scores of those `indices`, who wait at `mark`; None if the scorer failed when it was asked.

        Raises `NotRecorded` if a scorer that reads more than trajectories was not asked at that mark,
        and if the journal lacks what another one computes its scores from.
        """
        key = scorer, mark
        if key not in self._recorded:
            self._recorded[key] = self._find_recorded(scorer, mark)
        recorded = self._recorded[key]
        if recorded is None:
            return None
        declaration = find_scorer(scorer)
        if declaration.compute is not None:  # always anew: a score may depend on who else waits
            return self._compute(declaration, mark, tuple(indices))
        if any(index not in recorded for index in indices):
            raise self._not_scored(scorer, mark)
        return {index: recorded[index] for index in indices}

    def weigh(
        self, paths: Iterable[Path], scores: Mapping[int, float], config: VoteConfig
    ) -> list[Ballot]:
        """The ballots of these paths, weighed as in a run; `scores` are the check's.

        Raises `NotRecorded` if the journal holds the evidence of none of those that have an answer.
        """
        ballots = [path.ballot for path in paths]
        answered = [ballot.evidence for ballot in ballots if ballot.answer is not None]
        by_evidence = config.rule in BY_EVIDENCE and answered
        if by_evidence and all(evidence_for(config.rule, one) is None for one in answered):
            raise NotRecorded(
                f"{self.id}: the journal does not hold what vote={config.rule} weighs by:"
                f" {_HOW_TO_RECORD[config.rule]}"
            )
        return weigh(ballots, scores, config)

    def unfinished(self) -> NotRecorded:
        """The error for a policy that needs ends which were not recorded."""
        return NotRecorded(
            f"{self.id}: trajectories that this policy needs were not finished; record with"
            " --record full and without a time limit"
        )

    def _standing(self, mark: int) -> Mapping[int, Trajectory]:
        if mark not in self._prefixes:
            found = {}
            for index, one in self.history.trajectories.items():
                prefix = prefix_at(one.trajectory, mark)
                # One that was asked for an answer had ended its turn, whatever became of it then.
                ended = index in self.history.asked and own_tokens(one.trajectory) == mark
                if prefix is not None and not ended:
                    found[index] = prefix
            self._prefixes[mark] = found
        return self._prefixes[mark]

    def _find_recorded(self, scorer: str, mark: int) -> Mapping[int, float] | None:
        """What the journal holds, perhaps nothing; None if the scorer failed when it was asked."""
        for scored in self.history.scored:
            if (scored.scorer, scored.mark) == (scorer, mark):
                return scored.scores if scored.error is None else None
        for checked in self.history.checks:
            at = self._config.prune.mark if checked.mark is None else checked.mark
            if (checked.method, at) == (scorer, mark):
                failed = checked.reason is PruneReason.FALLBACK_RANDOM
                return None if failed else checked.scores
        return {}

    def _compute(
        self, declaration: ScorerDeclaration, mark: int, indices: tuple[int, ...]
    ) -> Mapping[int, float]:
        key = declaration.name, mark, indices
        if key not in self._computed:
            standing = self._standing(mark)
            prefixes = [standing[index] for index in indices]
            try:
                scores = declaration.scores(prefixes, mark)
            except ScorerError as error:
                raise NotRecorded(
                    f"{declaration.name} cannot be computed from this recording: {error}"
                ) from None
            self._computed[key] = dict(zip(indices, scores, strict=True))
        return self._computed[key]

    def _not_scored(self, scorer: str, mark: int) -> NotRecorded:
        marks = sorted({s.mark for s in self.history.scored if s.scorer == scorer})
        known = ", ".join(map(str, marks)) or "none"
        return NotRecorded(
            f"{scorer} did not score mark {mark} of {self.id} (its marks: {known}); record"
            f" with --record full --set 'record_marks=[{mark}]'"
        )

    def _path(self, history: TrajectoryHistory, work: Mapping[tuple[int, float], float]) -> Path:
        trajectory = history.trajectory
        encoded = {one.turn: one.encoded_tokens for one in reversed(history.requests)}
        calls = iter(history.calls)
        legs = []
        for place, turn in enumerate(trajectory.turns):
            called = turn.execution is not None
            work_s = work[history.index, next(calls).started] if called else None
            legs.append(Leg(encoded.get(place, 0), len(turn.token_ids), work_s))
        known = trajectory.evidence
        evidence = evidence_of(trajectory) if known == NO_EVIDENCE else known  # before 1.5
        tokens = trajectory.num_sampled_tokens
        return Path(
            trajectory.index,
            tuple(legs),
            Ballot(trajectory.index, trajectory.answer, tokens, evidence=evidence),
            trajectory.stop_reason in _OWN_ENDS,
            self.right(trajectory.answer),
        )


def replay_problems(recording: RecordedRun, crowding: float = 0.0) -> list[ReplayProblem]:
    """The problems that were solved, ready for replays. Raises `NotRecorded` if there are none."""
    problems = [
        ReplayProblem(history, recording.config, crowding)
        for history in recording.problems
        if history.solved is not None and history.trajectories
    ]
    if not problems:
        raise NotRecorded(f"{recording.path} holds no solved problem yet")
    return problems


def require_full(recording: RecordedRun) -> None:
    """Raise `NotRecorded` unless everything was recorded."""
    if recording.config.record != "full":
        raise NotRecorded(
            f"{recording.path} kept only what its own policy needed: record it with"
            f" {python()} -m solver.run PROBLEMS --record full"
        )
