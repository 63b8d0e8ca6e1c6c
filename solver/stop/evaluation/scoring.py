"""Scores saved rollouts at a mark with every scorer, and measures the time.

The scorers see what they see in a run: prefixes cut at the mark, in the engine's cache as a pause
leaves them, so the seconds are those of a Check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from math import inf

from solver.ports import Clock, Engine, Scorer
from solver.stop.evaluation.kept import End
from solver.stop.rollouts.rollout import ProblemRollouts
from solver.types import SamplingParams, Trajectory


@dataclass(slots=True)
class Marked:
    """One problem and block at a mark: the rollouts waiting there, how all end, the scores by method."""

    problem_id: str
    kind: str
    block: int
    mark: int
    answer: int
    ends: list[End]
    waiting: list[int]  # indices, in the order of the scores
    scores: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def right(self) -> list[bool]:
        """Whether each waiting rollout ends right, in the order of the scores."""
        by_index = {end.index: end.right for end in self.ends}
        return [by_index[index] for index in self.waiting]


def ends_of(unit: ProblemRollouts) -> list[End]:
    """How each launched rollout ends."""
    return [
        End(rollout.index, rollout.answer, unit.right(rollout), rollout.num_sampled_tokens)
        for rollout in unit.rollouts
    ]


async def score_at(
    units: Sequence[ProblemRollouts],
    mark: int,
    scorers: Mapping[str, Scorer],
    engine: Engine | None,
    clock: Clock,
    on_done: Callable[[], None] = lambda: None,
) -> list[Marked]:
    """Every unit at `mark`, scored by all `scorers`; with an `engine` the prefixes are cached first.

    Raises what a scorer raises: a failed scorer has no place in a comparison.
    """
    marked = []
    for unit in units:
        prefixes = [p for r in unit.rollouts if (p := unit.prefix(r, mark)) is not None]
        result = Marked(
            problem_id=unit.problem_id,
            kind=unit.tags.get("kind", ""),
            block=unit.block,
            mark=mark,
            answer=unit.answer,
            ends=ends_of(unit),
            waiting=[prefix.index for prefix in prefixes],
        )
        if prefixes:
            await _score(result, prefixes, scorers, engine, clock)
        marked.append(result)
        on_done()
    return marked


async def _score(
    result: Marked,
    prefixes: Sequence[Trajectory],
    scorers: Mapping[str, Scorer],
    engine: Engine | None,
    clock: Clock,
) -> None:
    if engine is not None:
        await asyncio.gather(*(_pause(engine, prefix) for prefix in prefixes))
    for name, scorer in scorers.items():
        began = clock.now()
        result.scores[name] = await scorer.score(prefixes, inf)
        result.seconds[name] = clock.now() - began
    if engine is not None:
        for prefix in prefixes:
            await engine.release(prefix.id)


async def _pause(engine: Engine, prefix: Trajectory) -> None:
    """Put the prefix into the cache as sampling does: all but its last id, which is not encoded yet."""
    params = SamplingParams(max_tokens=1, seed=0, temperature=0)
    async with aclosing(engine.generate(prefix.id, prefix.token_ids[:-1], params)) as stream:
        async for _ in stream:
            pass
