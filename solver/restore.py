"""Trajectories that ended for good before a crash, rebuilt from the journal: they keep their votes.

Those that were still under way begin again: their kernels are gone, and since a draw belongs to a
token's place they come to the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from solver.events import Checked, Ended, Event, Executed, Forced, ProblemStarted, Sampled
from solver.policy.seeds import trajectory_seed
from solver.types import StopReason, Trajectory, Turn

# A failure of the engine may have been the crash itself: these have another try.
_BEGIN_AGAIN = frozenset({None, StopReason.MARK, StopReason.ERROR})


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
            _take(found[event.index], event)
    finished = _finished(found)
    return [finished[index] for index in sorted(finished)]


def _finished(found: dict[int, Trajectory]) -> dict[int, Trajectory]:
    return {index: t for index, t in found.items() if t.stop_reason not in _BEGIN_AGAIN}


def _take(trajectory: Trajectory, event: Sampled | Executed | Forced | Ended) -> None:
    turn = trajectory.turns[-1]
    if isinstance(event, Sampled):
        turn.token_ids += event.token_ids
        turn.logprobs += event.logprobs
        turn.confidences += event.confidences or []
        turn.entropies += event.entropies or []
    elif isinstance(event, Executed):
        turn.tool_call, turn.execution = event.code, event.result
        turn.appended_token_ids = tuple(event.appended_token_ids)
        trajectory.turns.append(Turn())
    elif isinstance(event, Forced):
        turn.appended_token_ids += tuple(event.appended_token_ids)
        trajectory.turns.append(Turn())
    elif trajectory.stop_reason is not StopReason.PRUNED:
        trajectory.stop_reason = event.stop_reason
        trajectory.answer = event.answer
        trajectory.error = event.error
