"""The values that packages exchange: plain data, no IO, no behaviour beyond reading itself.

A `Trajectory` only ever grows: its token ids are the truth, text is derived from them. The mark and
`num_sampled_tokens` count sampled tokens only; the context limit counts `token_ids`, tool output
and forced tokens included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from sandbox.result import ExecutionResult

TokenIds = tuple[int, ...]


class StopReason(StrEnum):
    """Why a trajectory stands where it stands."""

    ANSWERED = "answered"  # the model ended its turn; `answer` may still be None if unreadable
    MARK = "mark"  # paused at the token mark, may be resumed
    PRUNED = "pruned"  # dropped by the check
    MAX_TOKENS = "max_tokens"  # its own sampled tokens or the context ran out
    MAX_TURNS = "max_turns"  # too many tool calls
    DEADLINE = "deadline"  # time ran out or the user stopped the run; `answer` is what could be read by then
    CONSENSUS = "consensus"  # the vote was decided without it
    ERROR = "error"  # its own failure, recorded in `error`


# Under way, or stopped without a vote.
NO_BALLOT = frozenset({None, StopReason.MARK, StopReason.PRUNED, StopReason.CONSENSUS})
# Runs anew in a process that takes over: under way, or failed, which may have been the crash itself.
BEGINS_AGAIN = frozenset({None, StopReason.MARK, StopReason.ERROR})


class FinishReason(StrEnum):
    """Why the engine stopped a request."""

    STOP = "stop"  # a stop id was sampled (it is the last id of the chunk)
    LENGTH = "length"  # max_tokens, or the context is full
    ABORT = "abort"  # the engine is closing


@dataclass(frozen=True, slots=True)
class Problem:
    """A competition problem; `answer` is known only when the file gives it, `tags` are its other columns."""

    id: str
    statement: str
    answer: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request is sampled. `top_k` 0 and `top_p` 1 and `min_p` 0 mean off; temperature 0 is greedy.

    On the in-process engine `seed` and the absolute position of a token decide its random draw, so a
    pause, a tool call or a restart changes nothing that is sampled after it. On vLLM a draw belongs to
    `seed` and the position at which its request began.
    """

    max_tokens: int
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_token_ids: frozenset[int] = frozenset()
    banned_token_ids: frozenset[int] = frozenset()


# The best ids a draw is described by, as in DeepConf (arXiv 2508.15260); also the most that a stock
# vLLM server tells.
CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Newly sampled ids with their log-probabilities (nats, raw model distribution at temperature 1).

    One chunk of a request, the first or the last, also says how many of the request's ids came from a
    cache (`reused_tokens`) and how many had to be encoded (`encoded_tokens`); where an engine learns it
    at the end only, a request that is closed early never says.

    An engine that knows the candidates of each id says more, one number an id: `confidences` are
    minus the mean log-probability of the 20 best candidates, `entropies` the entropy of these 20,
    renormalised (both nats, of the same distribution). Otherwise both are empty.
    """

    token_ids: TokenIds
    logprobs: tuple[float, ...]
    finish_reason: FinishReason | None = None
    reused_tokens: int = 0
    encoded_tokens: int = 0
    confidences: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()


@dataclass(slots=True)
class Turn:
    """What the model sampled in one go, the call it made, and the ids appended after it (not sampled).

    `tool_call` is the code that was run, empty for a call of a tool that does not exist; `execution`
    is what a call was answered with.

    `confidences` and `entropies` are those of `Chunk`: one an id, or empty if the engine has none.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    tool_call: str | None = None
    execution: ExecutionResult | None = None
    appended_token_ids: TokenIds = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an ended trajectory says of itself, by which its ballot may be weighed; None: not known.

    `confidence` is the mean of its tokens' confidences, `entropy` the mean entropy of its tail (both of
    the candidates that `Chunk` tells of, in nats), `verified` the last check's logit of "ends right".
    """

    confidence: float | None = None
    entropy: float | None = None
    verified: float | None = None


NO_EVIDENCE = Evidence()


@dataclass(slots=True)
class Trajectory:
    """One attempt at a problem: append-only. `index` is its place among the N, and names its seed.

    `evidence` is known once it has ended with a ballot; `unverified` is why the last check has no score.
    """

    problem_id: str
    index: int
    seed: int
    prompt_token_ids: TokenIds
    turns: list[Turn] = field(default_factory=lambda: [Turn()])
    stop_reason: StopReason | None = None
    answer: int | None = None
    error: str | None = None
    reused_tokens: int = 0
    encoded_tokens: int = 0
    evidence: Evidence = NO_EVIDENCE
    unverified: str | None = None

    @property
    def id(self) -> str:
        """Name of this trajectory in its run."""
        return f"{self.problem_id}#{self.index}"

    @property
    def token_ids(self) -> list[int]:
        """Every id so far: prompt, sampled, appended, in order."""
        ids = list(self.prompt_token_ids)
        for turn in self.turns:
            ids += turn.token_ids
            ids += turn.appended_token_ids
        return ids

    @property
    def logprobs(self) -> list[float]:
        """Log-probabilities of the sampled ids, in order."""
        return [logprob for turn in self.turns for logprob in turn.logprobs]

    @property
    def confidences(self) -> list[float]:
        """Confidences of the sampled ids, in order; empty if the engine has none."""
        return [confidence for turn in self.turns for confidence in turn.confidences]

    @property
    def entropies(self) -> list[float]:
        """Entropies (nats) of the candidates of the sampled ids; empty if the engine has none."""
        return [entropy for turn in self.turns for entropy in turn.entropies]

    @property
    def num_sampled_tokens(self) -> int:
        """How many ids the model sampled: what the mark counts."""
        return sum(len(turn.token_ids) for turn in self.turns)

    @property
    def num_tool_calls(self) -> int:
        """How many tool calls were answered."""
        return sum(turn.execution is not None for turn in self.turns)


class DegradationKind(StrEnum):
    """Why an answer is worth less than others of its run."""

    UNFAMILIAR = "unfamiliar"  # the model does not know such statements
    SCORER_FAILED = "scorer_failed"  # the survivors were drawn at random
    TRAJECTORIES_FAILED = "trajectories_failed"  # some of them
    ENGINE_INCIDENT = "engine_incident"  # the engine lost something and went on
    OUT_OF_TIME = "out_of_time"  # trajectories were cut short, or nothing was begun
    CROWDED = "crowded"  # trajectories were dropped before a mark, as the cache was full
    SHRUNK = "shrunk"  # fewer trajectories than configured, as there was no time for more
    INTERRUPTED = "interrupted"  # the same, by the user
    FAILED = "failed"  # the problem ended by an exception
    TRIED_AGAIN = "tried_again"  # after a failure the problem was solved once more
    NO_VOTE = "no_vote"  # nobody had an answer: it is the fallback
    OTHER = "other"

    @classmethod
    def _missing_(cls, _value: object) -> DegradationKind:
        return cls.OTHER  # what a newer version wrote


@dataclass(frozen=True, slots=True)
class Degradation:
    """A reason to doubt an answer; `detail` is the sentence that people are shown."""

    kind: DegradationKind
    detail: str

    @classmethod
    def of_scorer(cls, method: str, error: str | None) -> Degradation:
        """The check's scorer failed."""
        detail = f"scorer {method} failed, kept at random: {error}"
        return cls(DegradationKind.SCORER_FAILED, detail)


class PruneReason(StrEnum):
    """How the survivors were chosen."""

    SCORED = "scored"
    FALLBACK_RANDOM = "fallback_random"  # the scorer failed: seeded random choice
    SKIPPED = "skipped"  # nothing to prune


class Check(NamedTuple):
    """At `mark` sampled tokens the best `keep` of those that stand there go on."""

    mark: int
    keep: int


@dataclass(frozen=True, slots=True)
class PruneDecision:
    """Which of the paused trajectories go on. `kept`, `dropped` are trajectory indices, `scores` by index."""

    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    scores: Mapping[int, float]
    method: str
    reason: PruneReason
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Ballot:
    """One trajectory's vote, as the vote rule sees it: its index, answer (None abstains), sampled tokens.

    `weight` is what it counts, more than 0 and at most 1; `evidence` is its trajectory's.
    """

    index: int
    answer: int | None
    num_sampled_tokens: int
    weight: float = 1.0
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class Vote:
    """The outcome of a vote. `counts` maps answer to ballots, the best answer first.

    `margin` is the winner's ballots minus the most that another answer has: negative where fewer
    ballots weighed more. `weights` maps answer to what its ballots weigh together; it is empty where
    all weigh 1.
    """

    answer: int | None
    counts: Mapping[int, int]
    num_votes: int
    margin: int
    tied: bool
    decided_early: bool = False
    weights: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProblemBudget:
    """A problem's time on the run's clock, in seconds; `reserve_s` of it is for forced answers.

    `launch` and `checks` are how many trajectories it pays for and how many of them each check keeps (None:
    as many as are configured); `why` says why these are fewer, or why there is no time at all. `at_once`
    problems are expected to share the engine.
    """

    allotted_s: float
    reserve_s: float
    deadline: float
    launch: int | None = None
    checks: tuple[Check, ...] | None = None
    why: str = ""
    at_once: int = 1

    @property
    def keep(self) -> int | None:
        """How many go on to their ends, as far as it is told."""
        return None if self.checks is None else self.checks[-1].keep

    @property
    def part(self) -> Fraction:
        """The part of the engine it counts on: an equal one beside others, none if nothing is begun."""
        return Fraction(self.launch is not None, self.at_once)

    @property
    def soft_deadline(self) -> float:
        """When sampling stops and forced answers begin."""
        return self.deadline - self.reserve_s
