"""What the checks decide and what is answered under a policy: exact, for neither depends on time.

The same functions decide as in a run (`policy.prune`, `policy.weights`, `policy.consensus`), on the
same trajectories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from solver.config import VoteConfig
from solver.policy.consensus import early_vote
from solver.policy.prune import asks_scores, prune
from solver.policy.seeds import prune_seed
from solver.replay.policy import Policy
from solver.replay.problem import ReplayProblem
from solver.scorers import find_scorer
from solver.types import Check, PruneDecision, Vote


def decisions(
    problem: ReplayProblem, policy: Policy, indices: Sequence[int], run_seed: int
) -> list[PruneDecision]:
    """What each check of the policy decides, with the run's own random choices."""
    found, left = [], list(indices)
    for at in policy.checks:
        decision = decide(problem, at, policy.scorer, left, run_seed)
        left = [index for index in left if index not in decision.dropped]
        found.append(decision)
    return found


def decide(
    problem: ReplayProblem,
    at: Check,
    scorer: str,
    indices: Sequence[int],
    run_seed: int,
    draw: int = 0,
) -> PruneDecision:
    """Who of `indices` is dropped at a check, by which scores; `draw` 0 is the run's own random choice."""
    waiting = problem.waiting(indices, at.mark)
    selection = find_scorer(scorer).selection
    scores = None  # it stays so for random, and for a scorer that failed in the run
    if asks_scores(waiting, at.keep, selection):
        scores = problem.scores(scorer, at.mark, waiting)
    seed = prune_seed(run_seed, problem.id, draw)
    return prune(waiting, at.keep, selection, scorer, scores, seed)


def vote_of(
    problem: ReplayProblem, voters: Sequence[int], scores: Mapping[int, float], config: VoteConfig
) -> Vote:
    """The vote of these trajectories, when time is not short; `scores` are the checks'.

    Raises `NotRecorded` if it hangs on one whose end was not recorded.
    """
    paths = [problem.paths[index] for index in voters]
    complete = problem.weigh([path for path in paths if path.complete], scores, config)
    unfinished = [
        (path.ballot.num_sampled_tokens, path.index) for path in paths if not path.complete
    ]
    vote = early_vote(complete, unfinished, len(voters), config)
    if vote is None:
        raise problem.unfinished()
    return vote
