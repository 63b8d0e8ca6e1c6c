"""What a run writes down, one event a line: enough to resume, replay, train and report.

Every event carries `t`, seconds since the command started. Token ids are the truth; text is derived
by whoever reads them.

`SCHEMA_VERSION` changes when a reader of the old form would be wrong, `SCHEMA_MINOR` when something
is added that such a reader may pass over: a new type of event, a new field. Journals of older minors
are read as they are. docs/journal.schema.json is the schema for others (`python -m solver.schema`).

    1.0  the first form
    1.1  scored, engine_incident, schema_minor
    1.2  the weights of solved, vote.rule in the config
    1.3  the degradations of solved, of which degraded are the sentences; asked of forced, answer.ask in the
         config
    1.4  launch and keep of problem_started, taken of solved, pace in the config
    1.5  the evidence of ended; mark of checked, of which a problem may have several; prune.stages in the
         config; crowded
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    computed_field,
    model_validator,
)

from sandbox.result import ExecutionResult
from solver.config import SolverConfig
from solver.policy.pace import Taken
from solver.types import (
    NO_EVIDENCE,
    Degradation,
    DegradationKind,
    Evidence,
    PruneReason,
    StopReason,
)

SCHEMA_VERSION = 1
SCHEMA_MINOR = 5


# What engines and scorers say may be infinite or no number; times may not.
Said = Annotated[float, Field(allow_inf_nan=True)]
Count = Annotated[int, Field(ge=0, le=2**53)]  # of tokens


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    t: float = 0.0


class RunStarted(_Event):
    """The first line of a journal."""

    type: Literal["run_started"] = "run_started"
    schema_version: int = SCHEMA_VERSION
    schema_minor: int = 0  # what a journal without this field has
    created: str
    config: SolverConfig
    problem_ids: list[str]
    problems_sha256: str
    engine: dict[str, str | int] = {}
    isolation: str = ""


class RunResumed(_Event):
    """A later process goes on with this journal; its `t` starts again at 0."""

    type: Literal["run_resumed"] = "run_resumed"
    created: str
    schema_minor: int = 0  # of what follows


def first_event(
    t: float,
    config: SolverConfig,
    *,
    resumed: bool,
    problem_ids: Sequence[str] = (),
    problems_sha256: str = "",
    engine: Mapping[str, str | int] | None = None,
    isolation: str = "",
) -> RunStarted | RunResumed:
    """What a process writes into the journal before anything else; `resumed` if it goes on with a run."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    if resumed:
        return RunResumed(t=t, created=created, schema_minor=SCHEMA_MINOR)
    return RunStarted(
        t=t,
        schema_minor=SCHEMA_MINOR,
        created=created,
        config=config,
        problem_ids=list(problem_ids),
        problems_sha256=problems_sha256,
        engine=dict(engine or {}),
        isolation=isolation,
    )


class ProblemStarted(_Event):
    """A problem gets its time, None without a limit, and how many trajectories are launched and kept.

    `keep` is how many are kept at the last mark. Both are None before 1.4: then they are those of the config.
    """

    type: Literal["problem_started"] = "problem_started"
    problem_id: str
    prompt_token_ids: list[int]
    allotted_s: float | None
    launch: int | None = None
    keep: int | None = None


class Sampled(_Event):
    """Ids sampled by one request, with log-probabilities in nats; `started` is when it was asked for.

    `confidences` and `entropies` are those of `solver.types.Chunk`, where the engine has them.
    """

    type: Literal["sampled"] = "sampled"
    problem_id: str
    index: int
    token_ids: list[int]
    logprobs: list[Said]
    confidences: list[Said] | None = None
    entropies: list[Said] | None = None
    reused_tokens: Count
    encoded_tokens: Count
    started: float


class Executed(_Event):
    """A tool call, what came back, and the ids appended to the trajectory for it.

    `code` is empty for a call of a tool that does not exist: it was answered and nothing was run.
    """

    type: Literal["executed"] = "executed"
    problem_id: str
    index: int
    code: str
    result: ExecutionResult
    appended_token_ids: list[int]
    started: float


class Forced(_Event):
    """Ids appended to open a final answer: at a limit, or `asked` of one that ended its turn without any."""

    type: Literal["forced"] = "forced"
    problem_id: str
    index: int
    appended_token_ids: list[int]
    asked: bool = False


class Ended(_Event):
    """A trajectory stands still: at the mark (and may go on), or for good, with what its ballot may weigh."""

    type: Literal["ended"] = "ended"
    problem_id: str
    index: int
    stop_reason: StopReason
    num_sampled_tokens: Count
    answer: int | None = None
    error: str | None = None
    evidence: Evidence = NO_EVIDENCE


class Checked(_Event):
    """The scores at `mark` and who goes on; the mark is that of the config before 1.5 (None)."""

    type: Literal["checked"] = "checked"
    problem_id: str
    mark: int | None = None
    kept: list[int]
    dropped: list[int]
    scores: dict[int, Said]
    method: str
    reason: PruneReason
    error: str | None = None
    started: float


class Crowded(_Event):
    """The cache was full before a mark: the least promising of those in it, `index`, is dropped there.

    `scores` are those of the mark it comes from, or what costs nothing to say where the prefixes stand:
    those of a scorer that is computed from them, else their mean log-probability.
    """

    type: Literal["crowded"] = "crowded"
    problem_id: str
    index: int
    scores: dict[int, Said]


class Scored(_Event):
    """Under full recording: what a scorer says of every prefix at a mark, whoever decides there."""

    type: Literal["scored"] = "scored"
    problem_id: str
    scorer: str
    mark: int
    scores: dict[int, Said]
    error: str | None = None
    started: float


class EngineIncident(_Event):
    """The engine lost something and went on, or will: a server that crashed, hung or came back."""

    type: Literal["engine_incident"] = "engine_incident"
    what: str


class Solved(_Event):
    """A problem has its answer; the run never comes back to it.

    `votes` and `weights` (empty where every ballot weighs 1) are those of `solver.types.Vote`. `taken` is
    what was measured for the budgets of the problems after it; None if it was not begun.
    `degraded` are the sentences of `degradations`, which alone a journal before 1.3 has: then their
    kinds are told from the words.
    """

    type: Literal["solved"] = "solved"
    problem_id: str
    answer: int
    votes: dict[int, int]
    weights: dict[int, float] = {}
    num_votes: int
    margin: int
    tied: bool
    decided_early: bool
    elapsed_s: float
    sampled_tokens: int
    reused_tokens: Count
    encoded_tokens: Count
    taken: Taken | None = None
    degradations: list[Degradation] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def degraded(self) -> list[str]:
        """What people are shown of `degradations`."""
        return [degradation.detail for degradation in self.degradations]

    @model_validator(mode="before")
    @classmethod
    def _read_sentences(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "degradations" in fields:
            return fields
        sentences = _SENTENCES.validate_python(fields.get("degraded", []))
        return {**fields, "degradations": [Degradation(_kind(s), s) for s in sentences]}


_SENTENCES = TypeAdapter(list[str])
_WORDS = {  # how the sentences of a kind began
    "outside of what": DegradationKind.UNFAMILIAR,
    "scorer ": DegradationKind.SCORER_FAILED,
    "time was short": DegradationKind.OUT_OF_TIME,
    "no time left": DegradationKind.OUT_OF_TIME,
    "interrupted": DegradationKind.INTERRUPTED,
    "failed:": DegradationKind.FAILED,
    "tried again": DegradationKind.TRIED_AGAIN,
    "no vote": DegradationKind.NO_VOTE,
    r"\d+ trajectories failed": DegradationKind.TRAJECTORIES_FAILED,
}


def _kind(sentence: str) -> DegradationKind:
    """The kind of a sentence that was written before 1.3."""
    found = (kind for words, kind in _WORDS.items() if re.match(words, sentence))
    return next(found, DegradationKind.OTHER)


class RunEnded(_Event):
    """The last line of a journal whose run came to its end."""

    type: Literal["run_ended"] = "run_ended"
    interrupted: bool = False


Event = Annotated[
    RunStarted
    | RunResumed
    | ProblemStarted
    | Sampled
    | Executed
    | Forced
    | Ended
    | Checked
    | Crowded
    | Scored
    | EngineIncident
    | Solved
    | RunEnded,
    Field(discriminator="type"),
]

EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
