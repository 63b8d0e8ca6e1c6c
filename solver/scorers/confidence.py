"""Internal, not learned (kind III): how sure the model was of what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from solver.errors import ScorerError
from solver.policy.confidence import lowest_group_confidence, mean_logprobs, negative_entropy
from solver.scorers.declaration import Need, ScorerDeclaration
from solver.types import Trajectory

GROUPS = 4  # DeepConf groups a prefix holds; its own 2,048 tokens would be the whole prefix


def confidence(prefixes: Sequence[Trajectory], mark: int) -> list[float]:
    """Mean log-probability (nats a token) of each sampled prefix."""
    return mean_logprobs(prefixes)


def entropy(prefixes: Sequence[Trajectory], mark: int) -> list[float]:
    """Minus the mean entropy (nats) of the best 20 candidates at each sampled token.

    Raises `ScorerError` if the engine tells no entropies.
    """
    return [_over(p, p.entropies, negative_entropy) for p in prefixes]


def deepconf(prefixes: Sequence[Trajectory], mark: int) -> list[float]:
    """Lowest group confidence of DeepConf (arXiv 2508.15260), over `GROUPS` windows a prefix.

    Raises `ScorerError` if the engine tells no confidences.
    """
    window = max(1, mark // GROUPS)

    def lowest(confidences: Sequence[float]) -> float:
        return lowest_group_confidence(confidences, window)

    return [_over(p, p.confidences, lowest) for p in prefixes]


def _over(
    prefix: Trajectory, values: list[float], measure: Callable[[Sequence[float]], float]
) -> float:
    if len(values) != prefix.num_sampled_tokens:
        raise ScorerError(f"{prefix.id}: the engine told nothing of its candidates; use confidence")
    return measure(values)


CONFIDENCE = ScorerDeclaration("confidence", compute=confidence)
ENTROPY = ScorerDeclaration("entropy", compute=entropy, needs=frozenset({Need.CANDIDATES}))
DEEPCONF = ScorerDeclaration("deepconf", compute=deepconf, needs=frozenset({Need.CANDIDATES}))
