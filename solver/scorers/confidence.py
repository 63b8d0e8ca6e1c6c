"""Internal, not learned (kind III): how sure the model was of what it wrote."""

from __future__ import annotations

from collections.abc import Sequence

from solver.policy.confidence import mean_logprob
from solver.types import Trajectory


class ConfidenceScorer:
    """Mean log-probability (nats a token) of the sampled prefix; pure over the trajectory."""

    name = "confidence"

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One mean a trajectory; `deadline` is kept by being instant."""
        return [mean_logprob(trajectory.logprobs) for trajectory in trajectories]
