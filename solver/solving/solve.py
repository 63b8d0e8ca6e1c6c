"""How one problem is solved.

launch   N trajectories from one prompt, each to the token mark or to its own earlier end
check    one score a prefix that stands at the mark; the best K go on, the others end there
resume   the survivors go on to their answers, until the vote is decided or time is short
vote     the answer with the most ballots, or with the most weight

With several stages the survivors of a check go on to the mark of the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from solver.errors import named
from solver.journal.events import Checked, Crowded, ProblemStarted
from solver.policy.prune import Selection, asks_scores, last_scores, prune
from solver.policy.seeds import prune_seed
from solver.solving.concurrency import never, run_together
from solver.solving.resources import TrajectoryResources
from solver.solving.services import Services
from solver.solving.state import ProblemState
from solver.solving.trajectory import Stage, TrajectoryRun, begin
from solver.types import (
    Check,
    Degradation,
    DegradationKind,
    PruneDecision,
    PruneReason,
    StopReason,
    Trajectory,
    Vote,
)


async def solve(state: ProblemState, services: Services) -> Vote:
    """Solve one problem inside its budget; everything found on the way is left in `state`."""
    async with TrajectoryResources(
        services.sandboxes, services.engine, state.trajectories
    ) as resources:
        method = _Method(state, services, resources)
        prompt = await method.ask()
        method.launch(prompt)
        for check in method.checks:
            await method.go_to(check.mark)
            await method.check(check)
        await method.resume()
        await services.recording.score_other_marks(state, services)
    return state.final_vote(services.config.vote)


@dataclass(frozen=True, slots=True)
class _Method:
    """The stages, in the order in which they are called."""

    state: ProblemState
    services: Services
    resources: TrajectoryResources

    @property
    def num_launched(self) -> int:
        """N: as many as the problem's budget pays for."""
        paid_for = self.state.budget.launch
        return self.services.config.prune.launch if paid_for is None else paid_for

    @property
    def checks(self) -> tuple[Check, ...]:
        """The marks, and how many go on from each: as many as the problem's budget pays for."""
        services = self.services
        configured = services.selection.of(services.config.prune).checks
        return self.state.budget.checks or configured

    @property
    def num_kept(self) -> int:
        """K: how many go on from the last mark."""
        return self.checks[-1].keep

    async def ask(self) -> list[int]:
        """The ids of the prompt; a statement that the model does not know is a reason for doubt."""
        state, services = self.state, self.services
        prompt = services.dialect.prompt(state.problem.statement)
        allotted_s = state.budget.allotted_s
        services.record(
            ProblemStarted(
                t=services.elapsed(),
                problem_id=state.problem.id,
                prompt_token_ids=prompt,
                allotted_s=allotted_s if isfinite(allotted_s) else None,
                launch=self.num_launched,
                keep=self.num_kept,
            )
        )
        if concern := await services.concern(prompt):
            state.degrade(DegradationKind.UNFAMILIAR, concern)
        return prompt

    def launch(self, prompt: list[int]) -> None:
        """Begin N trajectories; those that have ended in an earlier process are there already."""
        self.services.sandboxes.prepare(self.num_kept)
        ended = {trajectory.index for trajectory in self.state.trajectories}
        self.state.trajectories += [
            begin(self.state.problem, index, prompt, self.services)
            for index in range(self.num_launched)
            if index not in ended
        ]

    async def go_to(self, mark: int) -> None:
        """Take those that are left to `mark`; at the soft deadline they stay where they are.

        Where the engine's cache is full before, the least promising end on the way.
        """
        state = self.state
        before = state.survivors()
        with self.services.pressure.relieved_by(state.problem.id, self._make_room):
            await self._advance(before, mark, StopReason.MARK)
        if lost := sum(t.stop_reason is StopReason.PRUNED for t in before):
            state.degrade(
                DegradationKind.CROWDED,
                f"the cache was full: {lost} of {len(before)} trajectories dropped before mark {mark}",
            )

    async def _make_room(self) -> bool:
        """Drop the least promising of those that have begun, unless one is just ending by itself.

        False if nobody is to be dropped.
        """
        state, services = self.state, self.services
        if await self.resources.one_has_ended():
            return True
        begun = [t for t in state.survivors() if t.num_sampled_tokens]
        asked = services.selection is Selection.BEST and services.recording.ends_dropped
        if not asked or not begun or len(state.survivors()) < 2:
            return False
        scores = self._promise(begun)
        least = min(begun, key=lambda t: (scores[t.index], -t.index))
        services.record(
            Crowded(
                t=services.elapsed(),
                problem_id=state.problem.id,
                index=least.index,
                scores=scores,
            )
        )
        if not await self.resources.interrupt(least):
            await self._end([least], StopReason.PRUNED)
        return True

    def _promise(self, begun: Sequence[Trajectory]) -> dict[int, float]:
        """Their scores at the mark they come from, else what costs nothing to say where they are."""
        known = last_scores(self.state.decisions)
        if all(t.index in known for t in begun):
            return {t.index: known[t.index] for t in begun}
        told = self.services.promise(begun)
        return {t.index: score for t, score in zip(begun, told, strict=True)}

    async def check(self, check: Check) -> None:
        """Keep the best of those at the mark; end the others, so that kernels and cache are free.

        Trajectories that ended before the mark vote as they are and take no place among those kept.
        """
        state, services = self.state, self.services
        started = services.elapsed()
        decision = await self._decide(state.survivors(), check.keep)
        state.decisions.append(decision)
        if decision.scores:
            state.check_s += services.elapsed() - started
            state.num_scored += len(decision.scores)
        if decision.reason is PruneReason.FALLBACK_RANDOM:
            failure = Degradation.of_scorer(decision.method, decision.error)
            state.degrade(failure.kind, failure.detail)
        services.record(
            Checked(
                t=services.elapsed(),
                problem_id=state.problem.id,
                mark=check.mark,
                kept=list(decision.kept),
                dropped=list(decision.dropped),
                scores=dict(decision.scores),
                method=decision.method,
                reason=decision.reason,
                error=decision.error,
                started=started,
            )
        )
        await services.recording.score_mark(check.mark, state, services)
        if services.recording.ends_dropped:
            await self._end(state.dropped(), StopReason.PRUNED)

    async def _decide(self, waiting: Sequence[Trajectory], keep: int) -> PruneDecision:
        """Ask the scorer if somebody must go; if it fails, a seeded random choice says who."""
        config, scorer = self.services.config.prune, self.services.scorer
        selection = self.services.selection
        indices = [trajectory.index for trajectory in waiting]
        seed = prune_seed(self.services.config.seed, self.state.problem.id)
        deadline, failure = self.state.budget.soft_deadline, None
        if scorer is not None and asks_scores(indices, keep, selection):
            try:
                async with asyncio.timeout_at(deadline):
                    values = await scorer.score(waiting, deadline)
                scores = dict(zip(indices, values, strict=True))
                return prune(indices, keep, selection, config.scorer, scores, seed)
            except Exception as error:  # the boundary: a scorer's failure is a named fallback
                failure = named(error)
        return prune(indices, keep, selection, config.scorer, None, seed, failure)

    async def resume(self) -> None:
        """Let every survivor vote, or as many as the rule needs, or as many as time allows."""
        state = self.state
        await self._finish(state.survivors())
        if dropped := state.dropped():
            # Only a full recording has any. They come last: so the survivors' times are those of
            # a run, and a replay can tell the engine's speed with few streams from that with many.
            self.services.sandboxes.prepare(len(dropped))
            await self._finish(dropped)
        unfinished = state.waiting()
        if unfinished and self._decided():
            await self._end(unfinished, StopReason.CONSENSUS)
        elif unfinished:
            await self._force(unfinished)

    async def _finish(self, trajectories: Sequence[Trajectory]) -> None:
        limit = self.services.config.sampling.max_tokens
        await self._advance(trajectories, limit, StopReason.MAX_TOKENS, until=self._decided)

    def _decided(self) -> bool:
        """Whether the vote is known and nobody is needed any more."""
        vote = self.services.config.vote
        return self.services.recording.stops_early and self.state.early_vote(vote) is not None

    async def _force(self, unfinished: Sequence[Trajectory]) -> None:
        """A forced answer for each, inside the reserve; a stop asked by the user leaves them silent."""
        stopping, deadline = self.services.stopping, self.state.budget.deadline
        await run_together(
            (run.force_answer(deadline) for run in self._runs(unfinished)),
            deadline=deadline,
            stopping=stopping,
        )
        silent = [t for t in unfinished if t.stop_reason is not StopReason.DEADLINE]
        await self._end(silent, StopReason.DEADLINE)
        cut_short = f"{len(unfinished)} trajectories cut short"
        if stopping.is_set():
            self.state.degrade(DegradationKind.INTERRUPTED, f"interrupted: {cut_short}")
        else:
            self.state.degrade(DegradationKind.OUT_OF_TIME, f"time was short: {cut_short}")

    async def _advance(
        self,
        trajectories: Iterable[Trajectory],
        sampled_limit: int,
        at_limit: StopReason,
        until: Callable[[], bool] = never,
    ) -> None:
        stage = Stage(sampled_limit, self.state.budget.soft_deadline, at_limit)
        await run_together(
            (run.advance(stage) for run in self._runs(trajectories)),
            deadline=stage.deadline,
            stopping=self.services.stopping,
            until=until,
        )

    async def _end(self, trajectories: Iterable[Trajectory], reason: StopReason) -> None:
        for run in self._runs(trajectories):
            await run.end(reason)

    def _runs(self, trajectories: Iterable[Trajectory]) -> list[TrajectoryRun]:
        return [TrajectoryRun(t, self.services, self.resources) for t in trajectories]
