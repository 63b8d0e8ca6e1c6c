"""A model-free `solver.build` and `solver.solving.session`, so that the command is tested by itself.

Loading takes `STUB_LOADING_S` seconds, each problem `STUB_DELAY_S`; its answer is the number in its
statement.
Run as a script, this is the command with the stubs in place, in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

from solver.config import SolverConfig
from solver.errors import ModelError
from solver.journal.events import Checked, Ended, Event, ProblemStarted, Sampled, Solved
from solver.ports import EngineCapabilities
from solver.types import Problem, PruneReason, StopReason

CAPABILITIES = EngineCapabilities("stub", "none", 512, 10, "cpu", "float32")


@dataclass
class Stubs:
    """What the stubs were asked to do."""

    loads: int = 0
    solved: list[str] = field(default_factory=list)
    started_at: float = 0.0

    def install(self, put: Callable[[dict[str, ModuleType], str, ModuleType], None]) -> None:
        for name, attribute in (("build", "services"), ("solving.session", "run_session")):
            module = ModuleType(f"solver.{name}")
            setattr(module, attribute, getattr(self, attribute))
            put(sys.modules, f"solver.{name}", module)

    @asynccontextmanager
    async def services(
        self,
        config: SolverConfig,
        *,
        record: Callable[[Event], None],
        started_at: float,
        stopping: asyncio.Event,
        say: Callable[[str], None],
        on_sampled: Callable[[int], None],
        log_folder: Path,
    ) -> AsyncIterator[SimpleNamespace]:
        self.loads += 1
        self.started_at = started_at
        if config.model.path != "embedded":
            raise ModelError(f"{config.model.path}: no such model folder")
        await asyncio.sleep(float(os.environ.get("STUB_LOADING_S", "0")))
        yield SimpleNamespace(
            config=config,
            engine=SimpleNamespace(capabilities=CAPABILITIES),
            sandboxes=SimpleNamespace(isolation="none"),
            record=record,
            stopping=stopping,
            elapsed=lambda: time.monotonic() - started_at,
        )

    async def run_session(
        self,
        problems: Sequence[Problem],
        services: SimpleNamespace,
        *,
        solved: Mapping[str, Solved],
    ) -> list[Solved]:
        answers: list[Solved] = []
        for problem in problems:
            if problem.id in solved:
                answers.append(solved[problem.id])
                continue
            if not services.stopping.is_set():
                self._play(problem.id, services)
                await asyncio.sleep(float(os.environ.get("STUB_DELAY_S", "0")))
                self.solved.append(problem.id)
            stopped = services.stopping.is_set()
            answer = _solved(problem, services.elapsed(), fallback=stopped)
            if not stopped:
                services.record(answer)
            answers.append(answer)
        return answers

    def _play(self, problem_id: str, services: SimpleNamespace) -> None:
        where = {"t": services.elapsed(), "problem_id": problem_id}
        services.record(ProblemStarted(**where, prompt_token_ids=[1], allotted_s=None))
        services.record(
            Sampled(
                **where,
                index=0,
                token_ids=[2, 3],
                logprobs=[-0.1, -0.2],
                reused_tokens=0,
                encoded_tokens=1,
                started=0.0,
            )
        )
        ended = Ended(**where, index=0, stop_reason=StopReason.MARK, num_sampled_tokens=2)
        services.record(ended)
        services.record(
            Checked(
                **where,
                kept=[0],
                dropped=[],
                scores={0: -0.15},
                method="confidence",
                reason=PruneReason.SCORED,
                started=0.0,
            )
        )


def _solved(problem: Problem, t: float, *, fallback: bool) -> Solved:
    number = re.search(r"\d+", problem.statement)
    answer = int(number[0]) if number and not fallback else 0
    return Solved(
        t=t,
        problem_id=problem.id,
        answer=answer,
        votes={} if fallback else {answer: 8},
        num_votes=0 if fallback else 8,
        margin=0 if fallback else 8,
        tied=False,
        decided_early=False,
        elapsed_s=0.5,
        sampled_tokens=2,
        reused_tokens=1,
        encoded_tokens=1,
        degraded=["interrupted: not started"]
        if fallback
        else (["outside of what it knows"] if "strange" in problem.statement else []),
    )


if __name__ == "__main__":
    Stubs().install(lambda modules, name, module: modules.update({name: module}))
    from solver.run import main

    sys.exit(main())
