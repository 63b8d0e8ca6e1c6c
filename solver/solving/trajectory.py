"""One trajectory: sample, execute, append, until the mark or its end.

What is sampled is appended the moment it arrives, so a cancelled request loses nothing, and a prefix
cut anywhere (in a call, in a header, in the answer) goes on later from the very same ids. Nothing
half-written is ever executed.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from math import isfinite

from sandbox.result import ExecutionResult, ExecutionStatus, shares
from solver.dialects.base import TurnReader
from solver.errors import ScorerError, named
from solver.journal.events import Ended, Executed, Forced, Sampled
from solver.policy.answer import FORCED_TOKENS
from solver.policy.seeds import trajectory_seed
from solver.policy.weights import evidence_of
from solver.solving.resources import TrajectoryResources
from solver.solving.services import Services
from solver.types import (
    NO_BALLOT,
    FinishReason,
    Problem,
    SamplingParams,
    StopReason,
    Trajectory,
    Turn,
)

_GOES_ON = frozenset({StopReason.MARK})
# ids that the opening of an answer may take beyond what it takes now: a block or a thought may begin
_MORE_TO_CLOSE = 16
# with more room than that in the context, how long the opening of an answer is does not matter
_LONG_OPENING = 512
_LEAST_OUTPUT = 64  # bytes


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a trajectory may go until: `sampled_limit` tokens, `deadline` on the clock (seconds)."""

    sampled_limit: int
    deadline: float
    at_limit: StopReason


def begin(problem: Problem, index: int, prompt: list[int], services: Services) -> Trajectory:
    """A trajectory with nothing sampled yet; its seed depends on run, problem and index alone."""
    seed = trajectory_seed(services.config.seed, problem.id, index)
    return Trajectory(problem.id, index, seed, tuple(prompt))


@dataclass(frozen=True, slots=True)
class TrajectoryRun:
    """A trajectory under way, with the services and the resources that it works with."""

    trajectory: Trajectory
    services: Services
    resources: TrajectoryResources

    async def advance(self, stage: Stage) -> None:
        """Go on until the stage's limit or the trajectory's own end; its failure becomes its result.

        One that is interrupted (`TrajectoryResources.interrupt`) ends as dropped.
        """
        scope = asyncio.timeout(None)
        with self.resources.under_way(self.trajectory, scope):
            try:
                async with scope:
                    stop_reason = await self._go_on(stage)
            except Exception as error:  # the boundary: one's failure never costs the others
                self.trajectory.error = named(error)
                stop_reason = StopReason.ERROR
            if scope.when() is not None:  # interrupted
                self.trajectory.error = None
                stop_reason = StopReason.PRUNED
            self.resources.ends(self.trajectory)
            await self._finish(stop_reason, stage.deadline)

    async def force_answer(self, deadline: float) -> None:
        """Make the model conclude by `deadline`, as far as it comes; a failure is the one's `error`."""
        try:
            await self._conclude()
        except Exception as error:  # the boundary: one failed answer never costs the others
            self.trajectory.error = named(error)
        await self._finish(StopReason.DEADLINE, deadline)

    async def _finish(self, stop_reason: StopReason, deadline: float) -> None:
        """Have the last check score it if it votes, then end it, even if cut short: its turn is over."""
        verified = None
        try:
            if stop_reason not in NO_BALLOT:
                verified = await self._verify(deadline)
        finally:
            await self.end(stop_reason, verified)

    async def _verify(self, deadline: float) -> float | None:
        """The last check's logit, over the cache that is still there; None without an answer or a score."""
        trajectory, services = self.trajectory, self.services
        check = services.last_check
        if check is None or services.dialect.answer(trajectory, services.config.answer) is None:
            return None
        try:
            [logit] = await check.score([trajectory], deadline)
            if not isfinite(logit):
                raise ScorerError(f"its score is {logit}")
        except Exception as error:  # the boundary: what is not scored weighs what is not known
            trajectory.unverified = named(error)
            return None
        return logit

    async def end(self, stop_reason: StopReason, verified: float | None = None) -> None:
        """Write down why the trajectory stands still; unless it may go on, free what it holds.

        `verified` is what the last check said of it.
        """
        trajectory, services = self.trajectory, self.services
        trajectory.stop_reason = stop_reason
        if stop_reason not in NO_BALLOT:
            trajectory.answer = services.dialect.answer(trajectory, services.config.answer)
            trajectory.evidence = evidence_of(trajectory, verified)
        services.record(
            Ended(
                t=services.elapsed(),
                problem_id=trajectory.problem_id,
                index=trajectory.index,
                stop_reason=stop_reason,
                num_sampled_tokens=trajectory.num_sampled_tokens,
                answer=trajectory.answer,
                error=trajectory.error,
                evidence=trajectory.evidence,
            )
        )
        if stop_reason not in _GOES_ON:
            await self.resources.release(trajectory)

    async def _go_on(self, stage: Stage) -> StopReason:
        trajectory, services = self.trajectory, self.services
        while True:
            reader = services.dialect.reader(trajectory.turns[-1].token_ids)
            room = stage.sampled_limit - trajectory.num_sampled_tokens
            context_room = self._context_room()
            if context_room < room + _LONG_OPENING:
                context_room -= self._conclusion_length()
            if reader.call is None and reader.ended:
                if services.config.answer.ask and not self._gave_an_answer():
                    await self._conclude(asked=True)
                return StopReason.ANSWERED
            if room <= 0 and stage.at_limit is StopReason.MARK:
                return StopReason.MARK
            if room <= 0 or context_room <= 0:
                await self._conclude()
                return StopReason.MAX_TOKENS
            if reader.call is None:
                await self._sample(reader, min(room, context_room))
            elif trajectory.num_tool_calls >= services.config.sampling.max_turns:
                await self._conclude()
                return StopReason.MAX_TURNS
            elif not await self._execute(reader, stage.deadline):
                await self._conclude()
                return StopReason.MAX_TOKENS

    def _gave_an_answer(self) -> bool:
        """Whether the model's own text holds any, an integer or not."""
        return any(content.strip() for content in self.services.dialect.boxes(self.trajectory))

    def _context_room(self) -> int:
        return self.services.engine.capabilities.context_length - len(self.trajectory.token_ids)

    def _conclusion_length(self) -> int:
        """What must be left in the context for an answer in the model's name."""
        opening = self.services.dialect.final_opening(self.trajectory)
        return len(opening) + _MORE_TO_CLOSE + FORCED_TOKENS

    async def _conclude(self, *, asked: bool = False) -> None:
        """Open the final answer in the model's name and let it write a few tokens, if there is room.

        `asked` says that the model had ended its turn without one.
        """
        trajectory, services = self.trajectory, self.services
        opening = services.dialect.final_opening(trajectory)
        if self._context_room() < len(opening) + FORCED_TOKENS:
            return
        trajectory.turns[-1].appended_token_ids += tuple(opening)
        trajectory.turns.append(Turn())
        services.record(
            Forced(
                t=services.elapsed(),
                problem_id=trajectory.problem_id,
                index=trajectory.index,
                appended_token_ids=opening,
                asked=asked,
            )
        )
        await self._sample(services.dialect.reader(), FORCED_TOKENS)

    async def _sample(self, reader: TurnReader, room: int) -> None:
        """Sample until a call is complete, the turn ends or `room` tokens are used up."""
        trajectory, services = self.trajectory, self.services
        turn = trajectory.turns[-1]
        already, started = len(turn.token_ids), services.elapsed()
        reused = encoded = 0
        params = _params(trajectory.seed, room, services)
        stream = services.engine.generate(trajectory.id, trajectory.token_ids, params)
        request = services.meter.request(services.clock.now)
        try:
            async with aclosing(stream):
                async for chunk in stream:
                    reused += chunk.reused_tokens
                    encoded += chunk.encoded_tokens
                    services.on_sampled(len(chunk.token_ids))
                    request.sampled(len(chunk.token_ids))
                    for place, token_id in enumerate(chunk.token_ids):
                        turn.token_ids.append(token_id)
                        turn.logprobs.append(chunk.logprobs[place])
                        turn.confidences += chunk.confidences[place : place + 1]
                        turn.entropies += chunk.entropies[place : place + 1]
                        reader.feed(token_id)
                        if reader.call is not None or reader.ended:
                            return
                    if chunk.finish_reason is FinishReason.ABORT:
                        raise RuntimeError("the engine closed in the middle of a request")
        finally:
            request.end()
            trajectory.reused_tokens += reused
            trajectory.encoded_tokens += encoded
            services.record(
                Sampled(
                    t=services.elapsed(),
                    problem_id=trajectory.problem_id,
                    index=trajectory.index,
                    token_ids=turn.token_ids[already:],
                    logprobs=turn.logprobs[already:],
                    confidences=turn.confidences[already:] or None,
                    entropies=turn.entropies[already:] or None,
                    reused_tokens=reused,
                    encoded_tokens=encoded,
                    started=started,
                )
            )

    async def _execute(self, reader: TurnReader, deadline: float) -> bool:
        """Run a complete call, or refuse it, and append what the model is told about it.

        False, with nothing appended, if even the shortest output would leave no room for an answer.
        """
        trajectory, services = self.trajectory, self.services
        started, turn = services.elapsed(), trajectory.turns[-1]
        if reader.refusal is not None:
            code = ""
            result = ExecutionResult(status=ExecutionStatus.REFUSED, stderr=reader.refusal)
        else:
            code = reader.call or ""
            timeout_s = min(services.config.sandbox.cell_timeout_s, deadline - services.clock.now())
            result = await self.resources.execute(trajectory, code, timeout_s)
        told = self._told(result)
        if told is None:
            return False
        result, message = told
        turn.tool_call, turn.execution = code, result
        turn.appended_token_ids = tuple(message)
        trajectory.turns.append(Turn())
        services.record(
            Executed(
                t=services.elapsed(),
                problem_id=trajectory.problem_id,
                index=trajectory.index,
                code=code,
                result=result,
                appended_token_ids=list(turn.appended_token_ids),
                started=started,
            )
        )
        return True

    def _told(self, result: ExecutionResult) -> tuple[ExecutionResult, list[int]] | None:
        """A call's result and the ids that tell it, cut until they leave room in the context for an answer.

        None if they never do.
        """
        trajectory, dialect = self.trajectory, self.services.dialect
        message = dialect.tool_message(trajectory, result)
        room = self._context_room()
        if len(message) + _LONG_OPENING > room:
            room -= self._conclusion_length()
        size = len(result.stdout.encode()) + len(result.stderr.encode())
        while len(message) > room:
            if size <= _LEAST_OUTPUT:
                return None
            size //= 2
            stdout, stderr = shares(result.stdout, result.stderr, size)
            texts = {"stdout": stdout, "stderr": stderr, "truncated": True}
            result = result.model_copy(update=texts)
            message = dialect.tool_message(trajectory, result)
        return result, message


def _params(seed: int, max_tokens: int, services: Services) -> SamplingParams:
    sampling = services.config.sampling
    return SamplingParams(
        max_tokens=max_tokens,
        seed=seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        stop_token_ids=services.dialect.stop_token_ids,
        banned_token_ids=services.dialect.banned_token_ids,
    )
