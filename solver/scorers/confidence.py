"""Internal, not learned (kind III): how sure the model was of what it wrote. Pure over trajectories."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from solver.errors import ScorerError
from solver.policy.confidence import lowest_group_confidence, mean_logprob, negative_entropy
from solver.types import Trajectory

GROUPS = 4  # DeepConf groups a prefix holds; its own 2,048 tokens would be the whole prefix


class ConfidenceScorer:
    """Mean log-probability (nats a token) of the sampled prefix."""

    name = "confidence"

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One mean a trajectory; `deadline` is kept by being instant."""
        return [mean_logprob(trajectory.logprobs) for trajectory in trajectories]


class EntropyScorer:
    """Minus the mean entropy (nats) of the best 20 candidates at each sampled token."""

    name = "entropy"

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One mean a trajectory; `ScorerError` if the engine tells no entropies."""
        return [_over(t, t.entropies, negative_entropy) for t in trajectories]


class DeepConfScorer:
    """Lowest group confidence of DeepConf (arXiv 2508.15260) over windows of `window` tokens."""

    name = "deepconf"

    def __init__(self, window: int) -> None:
        self._window = window

    @classmethod
    def at_mark(cls, mark: int) -> DeepConfScorer:
        """A window that fits `GROUPS` times into the prefix."""
        return cls(max(1, mark // GROUPS))

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One lowest group a trajectory; `ScorerError` if the engine tells no confidences."""

        def lowest(confidences: Sequence[float]) -> float:
            return lowest_group_confidence(confidences, self._window)

        return [_over(t, t.confidences, lowest) for t in trajectories]


def _over(
    trajectory: Trajectory, values: list[float], measure: Callable[[Sequence[float]], float]
) -> float:
    if len(values) != trajectory.num_sampled_tokens:
        raise ScorerError(
            f"{trajectory.id}: the engine tells nothing of its candidates; use confidence"
        )
    return measure(values)
