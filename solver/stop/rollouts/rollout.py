"""Rollouts as values: what was sampled for a problem, its first tokens and how each one ended.

The first tokens are enough to cut a rollout at any mark up to there; how it ended labels the prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from solver.errors import InputError
from solver.policy.prefix import cut
from solver.types import StopReason, Trajectory, Turn

_DECIMALS = {"logprobs": 6, "confidences": 4, "entropies": 4}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SavedTurn(_Frozen):
    """The beginning of a turn, or all of it; the fields are those of `solver.types.Turn`."""

    token_ids: list[int]
    logprobs: list[float]
    confidences: list[float] = []
    entropies: list[float] = []
    appended: list[int] = []

    def turn(self) -> Turn:
        """The turn, without its call."""
        return Turn(
            self.token_ids,
            self.logprobs,
            self.confidences,
            self.entropies,
            appended_token_ids=tuple(self.appended),
        )


class Rollout(_Frozen):
    """One trajectory: its first tokens, and how it ended.

    `parent` is set on a Monte-Carlo continuation: the index of the launched rollout whose prefix it
    continues (its own turns are then not stored). A launched rollout that was only taken to the mark
    ends with `StopReason.MARK`.
    """

    index: int
    parent: int | None = None
    stop_reason: StopReason
    answer: int | None
    error: str | None = None
    num_sampled_tokens: int
    turns: list[SavedTurn] = []

    @property
    def finished(self) -> bool:
        """Whether it came to an end of its own that can be right or wrong."""
        return self.stop_reason not in (StopReason.MARK, StopReason.ERROR)


class ProblemRollouts(_Frozen):
    """The rollouts of one problem in one block of seeds. `tags` are the problem's (family, kind)."""

    problem_id: str
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
        if rollout.num_sampled_tokens < mark or not rollout.turns:
            return None
        ended_here = rollout.num_sampled_tokens == mark
        if ended_here and rollout.stop_reason is not StopReason.MARK:
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
            )
        )
        remaining -= len(turn.token_ids)
    return turns


def _rounded(values: Sequence[float], name: str) -> list[float]:
    return [round(value, _DECIMALS[name]) for value in values]


def num_errors(units: Iterable[ProblemRollouts]) -> int:
    """How many rollouts failed; they count neither as right nor as wrong."""
    return sum(
        rollout.stop_reason is StopReason.ERROR for unit in units for rollout in unit.rollouts
    )
