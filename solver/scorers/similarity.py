"""External, not learned (kind I): keep prefixes that differ, drop those that repeat others."""

from __future__ import annotations

from collections.abc import Sequence

from solver.policy.similarity import diversity, shingles
from solver.types import Trajectory

WIDTH = 3  # tokens a shingle


class SimilarityScorer:
    """`policy.similarity.diversity` over shingles of the sampled ids; tool output does not count."""

    name = "similarity"

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """Scores that depend on the whole set; `deadline` is kept by being fast."""
        sampled = [[i for turn in t.turns for i in turn.token_ids] for t in trajectories]
        return diversity([shingles(ids, WIDTH) for ids in sampled])
