"""How sure a number over problems is: the bootstrap over problems, paired where methods are compared.

A problem is the unit that is drawn anew, with everything sampled for it, since its rollouts are not
independent. The same seed and number of problems draw the same problems, so the difference of two
methods is paired by subtracting problem by problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DRAWS = 4000
_CHUNK = 1_000_000  # picks held at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % percentile bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out: for differences."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], seed: int = 0, draws: int = DRAWS) -> Interval:
    """The mean over problems of `values` `[problems]`. Raises ValueError if there are none."""
    return ratio_interval(values, np.ones(len(values)).tolist(), seed, draws)


def difference_interval(
    ours: Sequence[float], theirs: Sequence[float], seed: int = 0, draws: int = DRAWS
) -> Interval:
    """The mean of ours minus theirs, problem by problem."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} problems cannot be paired")
    return mean_interval([a - b for a, b in zip(ours, theirs, strict=True)], seed, draws)


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], seed: int = 0, draws: int = DRAWS
) -> Interval:
    """sum(numerators) / sum(denominators), both `[problems]`, drawn together; seeded, repeatable.

    Raises ValueError if there are no problems.
    """
    above = np.asarray(numerators, np.float64)
    below = np.asarray(denominators, np.float64)
    count = len(above)
    if not count:
        raise ValueError("there are no problems to take the mean of")
    generator = np.random.default_rng(seed)
    shares: list[Array] = []
    step = max(1, _CHUNK // count)
    for start in range(0, draws, step):
        picks = generator.integers(0, count, (min(step, draws - start), count))
        shares.append(above[picks].sum(axis=1) / below[picks].sum(axis=1))
    low, high = np.quantile(np.concatenate(shares), (0.025, 0.975))
    return Interval(float(above.sum() / below.sum()), float(low), float(high))


def drawn_interval(
    values: Sequence[Sequence[float]], seed: int = 0, draws: int = DRAWS
) -> Interval:
    """The mean over trainings and problems of `values` `[trainings][problems]`.

    Problems are drawn anew and one training for all of them: how sure the number is of another training,
    measured on other problems. With one training it is `mean_interval`. Raises ValueError if there are none.
    """
    if len(values) == 1:
        return mean_interval(values[0], seed, draws)
    table = np.asarray(values, np.float64)
    if not table.size:
        raise ValueError("there are no problems to take the mean of")
    trainings, count = table.shape
    generator = np.random.default_rng(seed)
    means: list[Array] = []
    step = max(1, _CHUNK // count)
    for start in range(0, draws, step):
        some = min(step, draws - start)
        picks = generator.integers(0, count, (some, count))
        ones = generator.integers(0, trainings, some)
        means.append(table[ones[:, None], picks].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Interval(float(table.mean()), float(low), float(high))


def nested_interval(
    values: Sequence[Sequence[float]], seed: int = 0, draws: int = DRAWS
) -> Interval:
    """The mean over problems of the mean of each one's values; `values` `[problems][any number]`.

    Problems are drawn anew, and for each of them one of its values: how sure the number is of one
    run on other problems with other trajectories. Raises ValueError if there are none.
    """
    counts = np.array([len(row) for row in values])
    if not len(counts) or not counts.min():
        raise ValueError("there are no problems to take the mean of")
    table = np.zeros((len(counts), counts.max()))
    for place, row in enumerate(values):
        table[place, : len(row)] = row
    generator = np.random.default_rng(seed)
    means: list[Array] = []
    step = max(1, _CHUNK // len(counts))
    for start in range(0, draws, step):
        picks = generator.integers(0, len(counts), (min(step, draws - start), len(counts)))
        ones = (generator.random(picks.shape) * counts[picks]).astype(int)
        means.append(table[picks, ones].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Interval(float((table.sum(axis=1) / counts).mean()), float(low), float(high))
