"""How many to keep: the retention law of STOP (arXiv 2604.16029, Eq. 7).

    1 / gamma = a * C**b * Lp**c / Lt**d

gamma = K / N is the share of trajectories that go on, C the tokens that a problem may cost, Lp the
length of the prefix and Lt that of a whole trajectory. The law counts in units of 1,024 tokens; the
functions here take tokens. It was fitted on one 1.5B model with trajectories of two lengths, so
outside of these it is a guess: `plan` clips gamma and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNIT = 1024  # tokens
SMALLEST_GAMMA, LARGEST_GAMMA = 1 / 32, 1.0

_PARAMETERS = 4
_LEAST_SPREAD = 0.05  # a quantity that varies by less than 5 % tells nothing about its exponent
_SMALLEST_SINGULAR = 1e-3  # of standardised logarithms; below it some quantities vary together

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Law:
    """Coefficients of Eq. 7, and the ranges (tokens) of the points they were fitted on."""

    a: float
    b: float
    c: float
    d: float
    budgets: Range
    prefixes: Range
    lengths: Range

    def inverse_gamma(self, budget_tokens: float, prefix: float, length: float) -> float:
        """1 / gamma, not clipped; all arguments in tokens and above 0."""
        return float(
            self.a
            * (budget_tokens / UNIT) ** self.b
            * (prefix / UNIT) ** self.c
            / (length / UNIT) ** self.d
        )


# The points that are known to lie on it: 158 units at 2,048 of 8,650 tokens, 275 at 3,072 of 11,950.
PAPER = Law(
    a=1.17e4,
    b=0.46,
    c=0.40,
    d=4.55,
    budgets=(158 * UNIT, 275 * UNIT),
    prefixes=(2048, 3072),
    lengths=(8650, 11950),
)


@dataclass(frozen=True, slots=True)
class Retention:
    """What the law advises: `launch` N, `keep` K, and how far it can be trusted.

    `inverse_gamma` is the law's own, `gamma` is clipped to [1/32, 1]. `words` say what to doubt; it
    is empty when the inputs lie in the fitted range.
    """

    inverse_gamma: float
    gamma: float
    launch: int
    keep: int
    words: tuple[str, ...]


def retention(budget_tokens: float, prefix: float, length: float, law: Law = PAPER) -> Retention:
    """N and K for a budget of tokens a problem, a prefix and a whole trajectory, all in tokens.

        N = C / (Lp + gamma * (Lt - Lp))        K = gamma * N

    N is rounded down, so that the budget holds, and both are at least 1. Raises ValueError for
    values that are not positive and for a prefix that is not shorter than the trajectory.
    """
    for name, value in (("budget", budget_tokens), ("prefix", prefix), ("length", length)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"the {name} must be a positive number of tokens, not {value:g}")
    if prefix >= length:
        raise ValueError(
            f"the prefix ({prefix:g} tokens) must be shorter than a trajectory ({length:g})"
        )
    inverse = law.inverse_gamma(budget_tokens, prefix, length)
    gamma = min(max(1 / inverse, SMALLEST_GAMMA), LARGEST_GAMMA)
    words = _doubts(budget_tokens, prefix, length, law)
    if 1 / inverse > LARGEST_GAMMA:
        words.append(f"1/gamma = {inverse:.2f} is below 1: do not prune")
    elif 1 / inverse < SMALLEST_GAMMA:
        words.append(f"1/gamma = {inverse:.0f} is beyond 32: clipped to 32")
    if budget_tokens < length:
        words.append("the budget does not pay for one whole trajectory")
    launch = max(1, math.floor(budget_tokens / (prefix + gamma * (length - prefix))))
    keep = max(1, round(gamma * launch))
    return Retention(inverse, gamma, launch, keep, tuple(words))


def _doubts(budget_tokens: float, prefix: float, length: float, law: Law) -> list[str]:
    given = (
        ("budget", budget_tokens, law.budgets),
        ("prefix", prefix, law.prefixes),
        ("length", length, law.lengths),
    )
    return [
        f"the {name} of {value:,.0f} tokens is outside of the {low:,.0f} to {high:,.0f} it was"
        " fitted on"
        for name, value, (low, high) in given
        if not low <= value <= high
    ]


@dataclass(frozen=True, slots=True)
class Point:
    """The best gamma that a sweep found for one setting; lengths and budget in tokens."""

    budget_tokens: float
    prefix: float
    length: float
    gamma: float


def fit(points: Sequence[Point]) -> Law:
    """The law through one's own points, by least squares on logarithms.

        -log gamma = log a + b * log C + c * log Lp - d * log Lt

    Raises ValueError that says why it cannot: fewer points than leave anything to check (five for
    four coefficients), values that are not positive, a quantity that hardly varies, or quantities
    that vary together.
    """
    if len(points) <= _PARAMETERS:
        raise ValueError(
            f"{len(points)} points for {_PARAMETERS} coefficients: at least {_PARAMETERS + 1} are"
            " needed"
        )
    table = np.array([[p.budget_tokens, p.prefix, p.length, p.gamma] for p in points])
    if not (np.isfinite(table).all() and (table > 0).all()):
        raise ValueError("budgets, lengths and gammas must be positive numbers")
    logs = np.log(table[:, :3] / UNIT)
    for name, spread in zip(("budget", "prefix", "length"), np.ptp(logs, axis=0), strict=True):
        if spread < _LEAST_SPREAD:
            raise ValueError(f"the {name} hardly varies: vary it to learn its exponent")
    centred = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    weakest = np.linalg.svd(centred / math.sqrt(len(points)), compute_uv=False)[-1]
    if weakest < _SMALLEST_SINGULAR:
        raise ValueError("budget, prefix and length vary together: vary them one by one")
    design = np.column_stack([np.ones(len(points)), logs])
    solution = np.linalg.lstsq(design, -np.log(table[:, 3]), rcond=None)[0]
    low, high = table.min(axis=0), table.max(axis=0)
    return Law(
        a=float(np.exp(solution[0])),
        b=float(solution[1]),
        c=float(solution[2]),
        d=float(-solution[3]),
        budgets=(float(low[0]), float(high[0])),
        prefixes=(float(low[1]), float(high[1])),
        lengths=(float(low[2]), float(high[2])),
    )
