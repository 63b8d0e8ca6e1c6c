"""Trajectories that ended for good before a crash, rebuilt from the journal: they keep their votes.

Those that were still under way begin again: their kernels are gone, and since a draw belongs to a
token's place they come to the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from solver.journal.events import Checked, Ended, Event, Executed, Forced, ProblemStarted, Sampled
from solver.policy.seeds import trajectory_seed
from solver.types import BEGINS_AGAIN, StopReason, Trajectory, Turn


def finished_trajectories(
    events: Iterable[Event], problem_id: str, run_seed: int
) -> list[Trajectory]:
    """The trajectories of `problem_id` that need not be run again, by index."""
    found: dict[int, Trajectory] = {}
    prompt: tuple[int, ...] = ()
    for event in events:
        if getattr(event, "problem_id", None) != problem_id:
            continue
        if isinstance(event, ProblemStarted):
            prompt = tuple(event.prompt_token_ids)
            found = _finished(found)  # what an earlier process left half-done began again here
        elif isinstance(event, Checked):
            for index in event.dropped:
                if index in found:
                    found[index].stop_reason = StopReason.PRUNED
        elif isinstance(event, Sampled | Executed | Forced | Ended):
            if event.index not in found:
                seed = trajectory_seed(run_seed, problem_id, event.index)
                found[event.index] = Trajectory(problem_id, event.index, seed, prompt)
            trajectory = found[event.index]
            pruned = trajectory.stop_reason is StopReason.PRUNED
            grow(trajectory, event)
            if pruned:  # a full recording finishes them as well: they have no vote for that
                trajectory.stop_reason = StopReason.PRUNED
    finished = _finished(found)
    return [finished[index] for index in sorted(finished)]


def _finished(found: dict[int, Trajectory]) -> dict[int, Trajectory]:
    return {index: t for index, t in found.items() if t.stop_reason not in BEGINS_AGAIN}


def grow(trajectory: Trajectory, event: Sampled | Executed | Forced | Ended) -> None:
    """Let a trajectory become what it was in the run when it wrote `event`."""
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
