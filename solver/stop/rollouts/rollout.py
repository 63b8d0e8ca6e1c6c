"""Rollouts as values: what was sampled for a problem, its first tokens and how each one ended.

The first tokens are enough to cut a rollout at any mark up to there; how it ended labels the prefix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from sandbox.result import ExecutionResult, ExecutionStatus, tells_failure
from solver.errors import InputError
from solver.policy.prefix import cut
from solver.types import StopReason, Trajectory, Turn

_DECIMALS = {"logprobs": 6, "confidences": 4, "entropies": 4}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SavedTurn(_Frozen):
    """The beginning of a turn, or all of it; the fields are those of `solver.types.Turn`.

    `failed` says whether its call did; None without a call, and in files from before it was kept.
    """

    token_ids: list[int]
    logprobs: list[float]
    confidences: list[float] = []
    entropies: list[float] = []
    appended: list[int] = []
    failed: bool | None = None

    def turn(self) -> Turn:
        """The turn; of its call is known whether it failed."""
        status = ExecutionStatus.ERROR if self.failed else ExecutionStatus.OK
        return Turn(
            self.token_ids,
            self.logprobs,
            self.confidences,
            self.entropies,
            execution=None if self.failed is None else ExecutionResult(status=status),
            appended_token_ids=tuple(self.appended),
        )


class Rollout(_Frozen):
    """One trajectory: its first tokens, and how it ended.

    `parent` is set on a Monte-Carlo continuation: the index of the launched rollout whose prefix it
    continues (its own turns are then not stored). A launched rollout that was only taken to the mark
    ends with `StopReason.MARK`. `num_own_tokens` are those sampled before an answer was forced, which is
    what a mark counts; None in files from before it was kept.
    """

    index: int
    parent: int | None = None
    stop_reason: StopReason
    answer: int | None
    error: str | None = None
    num_sampled_tokens: int
    num_own_tokens: int | None = None
    turns: list[SavedTurn] = []

    @property
    def finished(self) -> bool:
        """Whether it came to an end of its own that can be right or wrong."""
        return self.stop_reason not in (StopReason.MARK, StopReason.ERROR)


class ProblemRollouts(_Frozen):
    """The rollouts of one problem in one block of seeds. `tags` are the problem's (family, kind).

    `statement` is its `statement_digest`; None in files from before it was kept.
    """

    problem_id: str
    statement: str | None = None
    block: int
    answer: int
    tags: dict[str, str] = {}
    prompt_token_ids: list[int]
    rollouts: list[Rollout]

    def right(self, rollout: Rollout) -> bool:
        """Whether a rollout's answer is the problem's."""
        return rollout.answer == self.answer

    def prefix(self, rollout: Rollout, mark: int) -> Trajectory | None:
        """The rollout as it stood at the mark; None if it had ended by then.

        It is what `TrajectoryRun.advance` leaves there: cut inside a turn or at its end, with no call
        of that turn executed.
        """
        own = rollout.num_own_tokens
        own = rollout.num_sampled_tokens if own is None else own
        ended_there = own == mark and rollout.stop_reason is StopReason.ANSWERED
        if own < mark or ended_there or not rollout.turns:
            return None
        turns = cut([saved.turn() for saved in rollout.turns], mark)
        if (stored := sum(len(turn.token_ids) for turn in turns)) < mark:
            raise InputError(
                f"{self.problem_id}: only {stored} tokens of a rollout are stored,"
                f" it cannot be cut at {mark}"
            )
        return Trajectory(
            self.problem_id,
            rollout.index,
            0,
            tuple(self.prompt_token_ids),
            turns,
            StopReason.MARK,
        )

    def whole(self, rollout: Rollout) -> Trajectory | None:
        """The rollout as it ended; None if it gave no answer or is not stored whole."""
        stored = sum(len(turn.token_ids) for turn in rollout.turns)
        if not rollout.finished or rollout.answer is None or stored < rollout.num_sampled_tokens:
            return None
        return Trajectory(
            self.problem_id,
            rollout.index,
            0,
            tuple(self.prompt_token_ids),
            [saved.turn() for saved in rollout.turns],
            rollout.stop_reason,
            rollout.answer,
        )


def statement_digest(statement: str) -> str:
    """The sha256 (hex) of a statement in lower case with single spaces."""
    return hashlib.sha256(" ".join(statement.lower().split()).encode()).hexdigest()


def saved_turns(trajectory: Trajectory, stored_tokens: int) -> list[SavedTurn]:
    """The turns up to the first `stored_tokens` sampled tokens."""
    turns, remaining = [], stored_tokens
    for turn in trajectory.turns:
        if remaining <= 0:
            break
        cut = slice(0, remaining)
        whole = len(turn.token_ids) < remaining
        turns.append(
            SavedTurn(
                token_ids=turn.token_ids[cut],
                logprobs=_rounded(turn.logprobs[cut], "logprobs"),
                confidences=_rounded(turn.confidences[cut], "confidences"),
                entropies=_rounded(turn.entropies[cut], "entropies"),
                appended=list(turn.appended_token_ids) if whole else [],
                failed=_failed(turn) if whole else None,
            )
        )
        remaining -= len(turn.token_ids)
    return turns


def _failed(turn: Turn) -> bool | None:
    return None if turn.execution is None else turn.execution.status is not ExecutionStatus.OK


def with_known_calls(
    units: Iterable[ProblemRollouts], text: Callable[[Sequence[int]], str]
) -> list[ProblemRollouts]:
    """Rollouts of older files, in which the answer to a call alone says whether it failed.

    `text` is a dialect's. Rollouts that know are left as they are.
    """

    def known(turn: SavedTurn) -> SavedTurn:
        if turn.failed is not None or not turn.appended:
            return turn
        return turn.model_copy(update={"failed": tells_failure(text(turn.appended))})

    return [
        unit.model_copy(
            update={
                "rollouts": [
                    rollout.model_copy(update={"turns": [known(turn) for turn in rollout.turns]})
                    for rollout in unit.rollouts
                ]
            }
        )
        for unit in units
    ]


def _rounded(values: Sequence[float], name: str) -> list[float]:
    return [round(value, _DECIMALS[name]) for value in values]


def num_errors(units: Iterable[ProblemRollouts]) -> int:
    """How many rollouts failed; they count neither as right nor as wrong."""
    return sum(
        rollout.stop_reason is StopReason.ERROR for unit in units for rollout in unit.rollouts
    )
