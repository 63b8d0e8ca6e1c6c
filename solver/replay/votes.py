"""Who is dropped and what is answered under a policy: exact, for neither depends on time.

The same functions decide as in a run (`policy.prune`, `policy.consensus`), on the same trajectories.
"""

from __future__ import annotations

from collections.abc import Sequence

from solver.config import VoteConfig
from solver.policy.consensus import decide, settled
from solver.policy.prune import choose, choose_random
from solver.policy.seeds import trajectory_seed
from solver.replay.policy import Policy
from solver.replay.tape import Tape
from solver.types import Vote


def dropped(
    tape: Tape, policy: Policy, indices: Sequence[int], run_seed: int, draw: int = 0
) -> frozenset[int]:
    """The indices that the check drops of those launched; `draw` 0 is the run's own random choice."""
    waiting = tape.waiting(indices, policy.mark)
    if policy.scorer == "none" or len(waiting) <= policy.keep:
        return frozenset()
    scores = None
    if policy.scorer != "random":
        scores = tape.scores(policy.scorer, policy.mark, waiting)
    if scores is None:  # random, or a scorer that failed in the run
        seed = trajectory_seed(run_seed, tape.problem.id, -1 - draw)
        return frozenset(choose_random(waiting, policy.keep, seed, policy.scorer).dropped)
    return frozenset(choose(scores, policy.keep, policy.scorer).dropped)


def vote_of(tape: Tape, voters: Sequence[int], config: VoteConfig) -> Vote:
    """The vote of these trajectories, when time is not short.

    Raises `NotRecorded` if it hangs on one whose end was not recorded.
    """
    paths = [tape.paths[index] for index in voters]
    complete = [path.ballot for path in paths if path.complete]
    unfinished = [
        (path.ballot.num_sampled_tokens, path.index) for path in paths if not path.complete
    ]
    vote = decide(settled(complete, unfinished), len(voters), config)
    if vote is None:
        raise tape.unfinished()
    return vote
