"""What recorded trajectories answer under each way of voting, as `stop evaluate` compares rollouts."""

from __future__ import annotations

from collections.abc import Sequence

from solver.replay.policy import Policy
from solver.replay.problem import NotRecorded, ReplayProblem
from solver.replay.sweep import Replay
from solver.replay.votes import decisions
from solver.scorers import Selection, find_scorer
from solver.scorers.registry import names_with_chances
from solver.stop.evaluation.kept import End
from solver.stop.evaluation.scoring import Marked
from solver.stop.evaluation.voting import VoteRow, vote_rows
from solver.types import Check


def vote_ways(replay: Replay, policy: Policy) -> list[VoteRow]:
    """Every way of voting among all recorded trajectories, and among those that the policy keeps.

    Over the problems whose answer is known and whose trajectories all came to their own ends. The same
    problem in several recordings is drawn as one.
    """
    graded = {
        (problem.id, block): problem
        for block, problems in enumerate(replay.problems)
        for problem in problems
        if problem.known_answer is not None and all(p.complete for p in problem.paths.values())
    }

    def dropped(unit: Marked) -> set[int]:
        problem = graded[unit.problem_id, unit.block]
        run_seed = replay.recordings[unit.block].config.seed
        found = decisions(problem, policy, problem.indices, run_seed)
        return {index for decision in found for index in decision.dropped}

    marked = [_marked(problem, block, policy) for (_, block), problem in graded.items()]
    prunes = find_scorer(policy.scorer).selection is not Selection.ALL
    pruners = {policy.scorer: dropped} if prunes and policy.checks[-1].keep < policy.launch else {}
    seed = replay.recordings[0].config.seed
    return vote_rows(marked, pruners, seed) if marked else []


def _marked(problem: ReplayProblem, block: int, policy: Policy) -> Marked:
    first = policy.checks[0].mark
    waiting = problem.waiting(problem.indices, first)
    known = {name: _last_scores(problem, name, policy.checks) for name in names_with_chances()}
    scores = {
        name: [found[index] for index in waiting]
        for name, found in known.items()
        if found and found.keys() == {*waiting}
    }
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
    return Marked(problem.id, "", block, first, answer, ends, waiting, scores)


def _last_scores(problem: ReplayProblem, scorer: str, checks: Sequence[Check]) -> dict[int, float]:
    """What `scorer` said of each trajectory at the last of the marks that it reached; empty if not known."""
    found: dict[int, float] = {}
    try:
        for mark, _ in checks:
            waiting = problem.waiting(problem.indices, mark)
            found |= problem.scores(scorer, mark, waiting) or {}
    except NotRecorded:
        return {}
    return found
