"""The worker on a scripted engine: it "solves" a problem by the last number in its statement.

`python scripted_worker.py --folder ... --started-at ...`, as the real one; `--refuse` will not start.
`STOP_SOLVER_SCRIPT=dies`: the first process's engine fails for good at the first problem but one.
`STOP_SOLVER_SCRIPT=stumbles`: the second process does not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sandbox.scripted import ScriptedPool
from solver.clock import MonotonicClock
from solver.config import AnswerConfig
from solver.engines.scripted import ScriptedEngine
from solver.errors import EngineError, ModelError
from solver.scorers import Selection
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.declaration import ComputedScorer
from solver.solving.services import Services
from solver.types import Trajectory
from submissions.worker import main

SCRIPT = os.environ.get("STOP_SOLVER_SCRIPT", "")
END = 256
THOUGHT = "so: "


class Reader:
    call = None
    refusal = None

    def __init__(self, token_ids: Sequence[int]) -> None:
        self.ended = END in token_ids

    def feed(self, token_id: int) -> None:
        self.ended = token_id == END


class Bytes:
    """One id a byte; the answer is the last number that was sampled."""

    stop_token_ids = frozenset({END})
    banned_token_ids: frozenset[int] = frozenset()

    def reserve(self, token_ids: Sequence[int]) -> None:
        pass

    def prompt(self, statement: str) -> list[int]:
        return [*statement.encode(), 0]

    def reader(self, token_ids: Sequence[int] = ()) -> Reader:
        return Reader(token_ids)

    def tool_message(self, trajectory: Trajectory, result: object) -> list[int]:
        return []

    def final_opening(self, trajectory: Trajectory) -> list[int]:
        return []

    def boxes(self, trajectory: Trajectory) -> list[str]:
        return re.findall(r"\d+", self.text([i for t in trajectory.turns for i in t.token_ids]))

    def answer(self, trajectory: Trajectory, rule: AnswerConfig) -> int | None:
        numbers = self.boxes(trajectory)
        answer = int(numbers[-1]) if numbers else None
        return answer if answer is not None and rule.minimum <= answer <= rule.maximum else None

    def text(self, token_ids: Sequence[int]) -> str:
        return bytes(i for i in token_ids if i < END).decode(errors="replace")


_statements: set[tuple[int, ...]] = set()


def said(trajectory_id: str, ids: tuple[int, ...]) -> list[int]:
    """What comes after `ids`: the thought and the statement's last number."""
    end = ids.index(0)
    _statements.add(ids[:end])
    if len(_statements) > 1 and SCRIPT == "dies" and STARTS == 1:
        raise EngineError("the device is gone")
    number = (re.findall(rb"\d+", bytes(ids[max(0, end - 40) : end])) or [b"0"])[-1]
    whole = [*THOUGHT.encode(), *number, END]
    return whole[len(ids) - end - 1 :]


@asynccontextmanager
async def scripted(config, *, record, started_at, stopping, **_) -> AsyncIterator[Services]:  # type: ignore[no-untyped-def]
    if "--refuse" in sys.argv or (SCRIPT == "stumbles" and STARTS == 2):
        raise ModelError("no such model here")
    async with ScriptedEngine(said, delay_s=0.0005) as engine:
        yield Services(
            config=config,
            engine=engine,
            dialect=Bytes(),
            sandboxes=ScriptedPool(str),
            scorer=ComputedScorer(CONFIDENCE),
            selection=Selection.BEST,
            clock=MonotonicClock(),
            record=record,
            started_at=started_at,
            concern=_none,
            stopping=stopping,
        )


async def _none(prompt: list[int]) -> None:
    await asyncio.sleep(0)


if __name__ == "__main__":
    starts = Path(sys.argv[sys.argv.index("--folder") + 1], "starts")
    STARTS = len(starts.read_text()) + 1 if starts.exists() else 1
    with contextlib.suppress(OSError):
        starts.write_text("x" * STARTS)
    sys.exit(main([a for a in sys.argv[1:] if a != "--refuse"], build=scripted))
