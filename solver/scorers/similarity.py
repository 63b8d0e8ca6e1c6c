"""External, not learned (kind I): keep prefixes that differ, drop those that repeat others."""

from __future__ import annotations

from collections.abc import Sequence

from solver.policy.similarity import diversity, shingles
from solver.scorers.declaration import ScorerDeclaration
from solver.types import Trajectory

WIDTH = 3  # tokens a shingle


def similarity(prefixes: Sequence[Trajectory], mark: int) -> list[float]:
    """`policy.similarity.diversity` over shingles of the sampled ids; tool output does not count.

    A prefix's score depends on the others.
    """
    sampled = [[i for turn in p.turns for i in turn.token_ids] for p in prefixes]
    return diversity([shingles(ids, WIDTH) for ids in sampled])


SIMILARITY = ScorerDeclaration("similarity", compute=similarity)
