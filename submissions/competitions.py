"""The competitions that can be submitted to: their names, Kaggle's modules, and the answers they accept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from solver.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Competition:
    """`server` is a class of `module`; without one, the module's environment is iterated over.

    `row_limit_s` is how long the gateway waits for a row, but for the first one, which may load the model.
    """

    name: str
    slug: str
    module: str
    server: str | None
    maximum: int
    modulus: int | None
    num_problems: int  # rows of a rerun
    row_limit_s: float = math.inf


COMPETITIONS = {
    competition.name: competition
    for competition in (
        Competition(
            "aimo3",
            "ai-mathematical-olympiad-progress-prize-3",
            "kaggle_evaluation.aimo_3_inference_server",
            "AIMO3InferenceServer",
            maximum=99_999,
            modulus=None,
            num_problems=50,
            row_limit_s=9 * 3600.0,
        ),
        Competition(
            "aimo2",
            "ai-mathematical-olympiad-progress-prize-2",
            "kaggle_evaluation.aimo_2_inference_server",
            "AIMO2InferenceServer",
            maximum=999,
            modulus=1000,
            num_problems=50,
            row_limit_s=1800.0,
        ),
        Competition(
            "aimo1",
            "ai-mathematical-olympiad-prize",
            "aimo",
            None,
            maximum=999,
            modulus=1000,
            num_problems=50,
        ),
    )
}


def competition(name: str) -> Competition:
    """The competition called `name`, or `ConfigError`."""
    try:
        return COMPETITIONS[name]
    except KeyError:
        raise ConfigError(
            f"unknown competition {name!r}; there are {', '.join(COMPETITIONS)}"
        ) from None
