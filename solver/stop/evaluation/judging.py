"""Scores saved rollouts with every scorer there is, at several marks, by the adapters of several trainings.

A prefix is encoded once: the marks of a problem follow each other, and adapters take turns on the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import product
from math import inf
from pathlib import Path

from solver.cli.progress import WorkProgress
from solver.config import SolverConfig
from solver.errors import PartMissing, ScorerError
from solver.ports import Scorer
from solver.scorers import Need, ScorerContext, ScorerDeclaration, find_scorer, scorer_names
from solver.scorers.last_check import open_last_check
from solver.scorers.stop import StopScorer
from solver.solving.services import Services
from solver.stop.evaluation.scores import Scores
from solver.stop.evaluation.scoring import Marked, pause, prefixes_at, unscored, with_verified
from solver.stop.rollouts.rollout import ProblemRollouts, with_known_calls

_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class _Judge:
    """A scorer that reads a model, and what it needs to be asked while others are open too."""

    scorer: Scorer
    stop: StopScorer | None  # whose adapter has to be on the model


def missing(
    scores: Scores,
    units: Sequence[ProblemRollouts],
    launches: Sequence[int],
    marks: Sequence[int],
) -> list[ProblemRollouts]:
    """The units that are not scored at every launch and mark in every draw."""
    wanted = list(product(launches, marks, range(scores.header.num_draws)))
    return [
        unit
        for unit in units
        if any((unit.problem_id, unit.block, *setting) not in scores for setting in wanted)
    ]


async def score_units(
    units: Sequence[ProblemRollouts],
    launches: Sequence[int],
    marks: Sequence[int],
    draws: Sequence[SolverConfig],
    services: Services,
    model_folder: Path,
    scores: Scores,
    progress: WorkProgress,
) -> None:
    """Every unit of `units` at every launch and mark, by every scorer, into `scores`.

    The first config of `draws` is asked for all scorers, the others, which name adapters and reward models of
    other trainings, for those that were trained. Rollouts that are stored whole are scored by the last check
    too, if there is one. A smaller launch is the first so many of a unit's rollouts.
    An adapter is used at every mark, also at those it was not trained for. A prefix is encoded once: at later
    marks what it grew by.
    """
    progress.report("scores", 0, len(units))
    async with AsyncExitStack() as closing:
        judges = [
            await _judges(
                config, draws[:1] if number else (), marks, services, model_folder, closing
            )
            for number, config in enumerate(draws)
        ]
        last_checks: dict[str | None, StopScorer | None] = {}  # by folder: trainings may share one
        for config in draws:
            if config.vote.adapter not in last_checks:
                check = await _last_check(config, services, model_folder, closing)
                last_checks[config.vote.adapter] = check
        cached = any(
            judge.stop is not None
            for by_mark in judges
            for found in by_mark.values()
            for judge in found.values()
        )
        for done, unit in enumerate(units, 1):
            known = with_known_calls([unit], services.dialect.text)[0]
            found: list[Marked] = []
            for mark in sorted(marks):
                at_mark = [by_mark[mark] for by_mark in judges]
                found += await _score_unit(known, launches, mark, at_mark, services, cached)
            verified = {
                folder: await _verify(known, check, services)
                for folder, check in last_checks.items()
            }
            for marked in found:
                scores.append(with_verified(marked, verified[draws[marked.draw].vote.adapter]))
            for rollout in unit.rollouts:
                await services.engine.release(f"{unit.problem_id}#{rollout.index}")
            progress.report("scores", done, len(units))


async def _judges(
    config: SolverConfig,
    known: Sequence[SolverConfig],
    marks: Sequence[int],
    services: Services,
    model_folder: Path,
    closing: AsyncExitStack,
) -> dict[int, dict[str, _Judge]]:
    """The scorers that read a model, by mark and name, each waiting to be asked.

    Without those whose parts are missing, and those that a config of `known` has as well.
    """
    context = ScorerContext(
        config,
        services.engine,
        services.dialect,
        model_folder,
        tuple(marks),
        closing,
        any_mark=True,
    )
    opened: dict[int, dict[str, Scorer]] = {mark: {} for mark in marks}
    for name in scorer_names():
        declaration = find_scorer(name)
        ours = _parts(declaration, config)
        if declaration.open is None or any(ours == _parts(declaration, c) for c in known):
            continue
        for mark in marks:
            try:
                opened[mark][name] = await declaration.open(replace(context, marks=(mark,)))
            except PartMissing:
                continue
    stop = context.shared.get("stop")
    if stop is not None:
        stop.close()

    def judge(name: str, scorer: Scorer) -> _Judge:
        return _Judge(scorer, stop if Need.ADAPTER in find_scorer(name).needs else None)

    return {
        mark: {name: judge(name, scorer) for name, scorer in found.items()}
        for mark, found in opened.items()
    }


async def _last_check(
    config: SolverConfig, services: Services, model_folder: Path, closing: AsyncExitStack
) -> StopScorer | None:
    """The last check of one training, waiting to be asked; None where there is none."""
    context = ScorerContext(config, services.engine, services.dialect, model_folder, (), closing)
    try:
        check = await open_last_check(context)
    except PartMissing:
        return None
    check.close()
    return check


async def _verify(
    unit: ProblemRollouts, check: StopScorer | None, services: Services
) -> dict[int, float]:
    """What the last check says of the rollouts that are stored whole and leave room for it, by index."""
    if check is None:
        return {}
    room = services.engine.capabilities.context_length - len(check.spec.stop_token_ids)
    ended = [
        whole
        for rollout in unit.rollouts
        if (whole := unit.whole(rollout)) is not None and len(whole.token_ids) <= room
    ]
    await pause(services.engine, ended)
    check.open_again()
    try:
        logits = _rounded(await check.score(ended, inf))
    finally:
        check.close()
    return dict(zip((whole.index for whole in ended), logits, strict=True))


def _parts(declaration: ScorerDeclaration, config: SolverConfig) -> tuple[str | None, ...]:
    """The folders a scorer is made of: what differs between trainings."""
    named = {Need.ADAPTER: config.prune.adapter, Need.REWARD_MODEL: config.prune.reward_model}
    return tuple(folder for need, folder in named.items() if need in declaration.needs)


async def _score_unit(
    unit: ProblemRollouts,
    launches: Sequence[int],
    mark: int,
    judges: Sequence[Mapping[str, _Judge]],
    services: Services,
    cached: bool,
) -> list[Marked]:
    """The unit at one mark for each launch and draw, before the last check."""
    units: list[Marked] = []
    prefixes = prefixes_at(unit, mark)
    if cached and prefixes:
        await pause(services.engine, prefixes)
    for draw, found in enumerate(judges):
        judged: dict[str, list[float]] = {}
        seconds: dict[str, float] = {}
        for name, judge in found.items() if prefixes else ():
            if judge.stop is not None:
                judge.stop.open_again()
            try:
                began = services.clock.now()
                judged[name] = _rounded(await judge.scorer.score(prefixes, inf))
                seconds[name] = services.clock.now() - began
            finally:
                if judge.stop is not None:
                    judge.stop.close()
        for launch in launches:
            some = unit.model_copy(update={"rollouts": unit.rollouts[:launch]})
            known = {rollout.index for rollout in some.rollouts}
            places = [i for i, prefix in enumerate(prefixes) if prefix.index in known]
            waiting = [prefixes[i] for i in places]
            marked = unscored(some, mark, waiting, draw)
            whole = len(waiting) == len(prefixes)
            for name in scorer_names() if waiting else ():
                compute = find_scorer(name).compute
                if name in judged:
                    marked.scores[name] = [judged[name][i] for i in places]
                    if whole:
                        marked.seconds[name] = seconds[name]
                elif compute is not None and not draw:
                    began = services.clock.now()
                    try:
                        marked.scores[name] = _rounded(find_scorer(name).scores(waiting, mark))
                    except ScorerError:  # these rollouts were sampled without what it needs
                        continue
                    marked.seconds[name] = services.clock.now() - began
            units.append(marked)
    return units


def _rounded(scores: Sequence[float]) -> list[float]:
    """Scores as they are kept in files, so that tables from a file are those that were made first."""
    return [round(score, _DECIMALS) for score in scores]
