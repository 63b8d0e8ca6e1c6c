"""What recorded trajectories answer under each way of voting, as `stop evaluate` compares rollouts."""

from __future__ import annotations

from solver.replay.policy import Policy
from solver.replay.problem import NotRecorded, ReplayProblem
from solver.replay.sweep import Replay
from solver.scorers import Selection, find_scorer
from solver.scorers.registry import names_with_chances
from solver.stop.evaluation.kept import End
from solver.stop.evaluation.scoring import Marked
from solver.stop.evaluation.voting import VoteRow, vote_rows


def vote_ways(replay: Replay, policy: Policy) -> list[VoteRow]:
    """Every way of voting among all recorded trajectories, and among those that the policy keeps.

    Over the problems whose answer is known and whose trajectories all came to their own ends. The same
    problem in several recordings is drawn as one.
    """
    marked = [
        _marked(problem, block, policy)
        for block, problems in enumerate(replay.problems)
        for problem in problems
        if problem.known_answer is not None and all(p.complete for p in problem.paths.values())
    ]
    prunes = find_scorer(policy.scorer).selection is not Selection.ALL
    pruners = [policy.scorer] if prunes and policy.keep < policy.launch else []
    seed = replay.recordings[0].config.seed
    return vote_rows(marked, pruners, policy.keep, seed) if marked else []


def _marked(problem: ReplayProblem, block: int, policy: Policy) -> Marked:
    waiting = problem.waiting(problem.indices, policy.mark)
    scores = {}
    for name in {*names_with_chances(), policy.scorer}:
        try:
            found = problem.scores(name, policy.mark, waiting)
        except NotRecorded:
            continue
        if found:
            scores[name] = [found[index] for index in waiting]
    answer = problem.expected
    assert answer is not None, "only graded problems are compared"
    ends = [
        End(
            path.index,
            path.ballot.answer,
            path.right,
            path.ballot.num_sampled_tokens,
            path.ballot.evidence,
        )
        for path in problem.paths.values()
    ]
    return Marked(problem.id, "", block, policy.mark, answer, ends, waiting, scores)
