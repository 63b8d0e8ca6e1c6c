"""Scores saved rollouts at a mark with every scorer, and measures the time.

The scorers see what they see in a run: prefixes cut at the mark, in the engine's cache as a pause
leaves them, so the seconds are those of a Check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from math import inf

from solver.policy.weights import evidence_of
from solver.ports import Clock, Engine, Scorer
from solver.stop.evaluation.kept import End
from solver.stop.rollouts.rollout import ProblemRollouts, Rollout
from solver.types import NO_EVIDENCE, Evidence, SamplingParams, Trajectory


@dataclass(slots=True)
class Marked:
    """One problem and block at a mark: the rollouts waiting there, how all end, the scores by method.

    `draw` counts trainings: the same rollouts scored by an adapter of another seed.
    """

    problem_id: str
    kind: str
    block: int
    mark: int
    answer: int
    ends: list[End]
    waiting: list[int]  # indices, in the order of the scores
    scores: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    draw: int = 0

    @property
    def launch(self) -> int:
        """How many rollouts were launched."""
        return len(self.ends)

    @property
    def right(self) -> list[bool]:
        """Whether each waiting rollout ends right, in the order of the scores."""
        by_index = {end.index: end.right for end in self.ends}
        return [by_index[index] for index in self.waiting]


def ends_of(unit: ProblemRollouts) -> list[End]:
    """How each launched rollout ends."""
    return [
        End(
            rollout.index,
            rollout.answer,
            unit.right(rollout),
            rollout.num_sampled_tokens,
            _evidence(unit, rollout),
        )
        for rollout in unit.rollouts
    ]


def with_verified(marked: Marked, logits: Mapping[int, float]) -> Marked:
    """The unit with what the last check said of its rollouts, by index."""
    return replace(
        marked,
        ends=[
            replace(end, evidence=replace(end.evidence, verified=logits.get(end.index)))
            for end in marked.ends
        ],
    )


def _evidence(unit: ProblemRollouts, rollout: Rollout) -> Evidence:
    whole = unit.whole(rollout)
    if whole is None:
        return NO_EVIDENCE
    found = evidence_of(whole)
    return Evidence(_rounded(found.confidence), _rounded(found.entropy))


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


def prefixes_at(unit: ProblemRollouts, mark: int) -> list[Trajectory]:
    """The rollouts that wait at the mark, as they stood there."""
    return [p for r in unit.rollouts if (p := unit.prefix(r, mark)) is not None]


def unscored(
    unit: ProblemRollouts, mark: int, prefixes: Sequence[Trajectory], draw: int = 0
) -> Marked:
    """The unit at the mark, where `prefixes` wait, without scores."""
    return Marked(
        problem_id=unit.problem_id,
        kind=unit.tags.get("kind", ""),
        block=unit.block,
        mark=mark,
        answer=unit.answer,
        ends=ends_of(unit),
        waiting=[prefix.index for prefix in prefixes],
        draw=draw,
    )


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
        prefixes = prefixes_at(unit, mark)
        result = unscored(unit, mark, prefixes)
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
        await pause(engine, prefixes)
    for name, scorer in scorers.items():
        began = clock.now()
        result.scores[name] = await scorer.score(prefixes, inf)
        result.seconds[name] = clock.now() - began
    if engine is not None:
        for prefix in prefixes:
            await engine.release(prefix.id)


async def pause(engine: Engine, prefixes: Sequence[Trajectory]) -> None:
    """Put prefixes into the cache as sampling does: all but the last id of each, which is not encoded yet."""
    await asyncio.gather(*(_pause(engine, prefix) for prefix in prefixes))


async def _pause(engine: Engine, prefix: Trajectory) -> None:
    params = SamplingParams(max_tokens=1, seed=0, temperature=0)
    async with aclosing(engine.generate(prefix.id, prefix.token_ids[:-1], params)) as stream:
        async for _ in stream:
            pass
