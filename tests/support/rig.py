"""A whole solver on scripts: what the model says, what kernels print, what fails; time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sandbox.limits import Limits
from sandbox.scripted import Script as CellScript
from sandbox.scripted import ScriptedPool
from solver.config import SolverConfig
from solver.dialects.base import Dialect
from solver.dialects.fenced import FencedDialect
from solver.engines.scripted import Fault, Script, ScriptedEngine
from solver.journal.events import Event
from solver.ports import Scorer
from solver.scorers import find_scorer
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.declaration import ComputedScorer
from solver.solving.recording import recording_of
from solver.solving.services import Services
from solver.types import Problem, ProblemBudget
from tests.support import LoopClock, byte_tokenizer

TOKENIZER = byte_tokenizer()
DIALECT = FencedDialect(TOKENIZER, "bare", Limits())
END = "<|end|>"


def ids(text: str) -> list[int]:
    """Text as ids, one a byte."""
    encoded: list[int] = TOKENIZER.encode(text, add_special_tokens=False)
    return encoded


def says(answer: int, filler: int = 0) -> str:
    """A turn that concludes, `filler` tokens longer than it must be."""
    return "." * filler + f"\\boxed{{{answer}}}{END}"


def config(**sections: Mapping[str, object]) -> SolverConfig:
    """A small config: sections are merged over launch 4, keep 2, mark 10."""
    base = {"prune": {"launch": 4, "keep": 2, "mark": 10}, "sampling": {"max_tokens": 400}}
    for name, section in sections.items():
        base[name] = {**base.get(name, {}), **section}
    return SolverConfig.model_validate(base)


@dataclass
class Rig:
    """Build with scripts, take `services()` inside the loop, look at `events` afterwards."""

    says: Script | Mapping[str, str]
    prints: CellScript = "0\n".__add__
    settings: SolverConfig = field(default_factory=config)
    faults: Mapping[str, Fault] = field(default_factory=dict)
    logprobs: Mapping[str, float] = field(default_factory=dict)
    candidates: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    scorer: Scorer | None = field(default_factory=lambda: ComputedScorer(CONFIDENCE))
    last_check: Scorer | None = None
    delay_s: float = 0.01  # of a step, and more for each request that is open
    stream_s: float = 0.0
    context_length: int = 1 << 20
    dialect: Dialect = DIALECT
    events: list[Event] = field(default_factory=list)
    requests: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def services(self) -> Services:
        """Fresh services on the running loop."""
        self.engine = _Recording(self)
        self.pool = ScriptedPool(self.prints, self.settings.sandbox)
        clock = LoopClock()
        return Services(
            config=self.settings,
            engine=self.engine,
            dialect=self.dialect,
            sandboxes=self.pool,
            scorer=self.scorer,
            selection=find_scorer(self.settings.prune.scorer).selection,
            clock=clock,
            record=self.events.append,
            started_at=clock.now(),
            recording=recording_of(self.settings, ()),
            last_check=self.last_check,
            concern=_no_concern,
        )

    def of(self, kind: type) -> list[Event]:
        """The recorded events of one type."""
        return [event for event in self.events if isinstance(event, kind)]


class _Recording(ScriptedEngine):
    """Remembers the ids of every request."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(
            rig.says,
            encode=ids,
            faults=rig.faults,
            logprobs=rig.logprobs,
            candidates=rig.candidates,
            delay_s=rig.delay_s,
            context_length=rig.context_length,
        )
        self._rig = rig

    async def _closes_within(self, seconds: float) -> bool:
        return await super()._closes_within(seconds + self._rig.stream_s * len(self.open_requests))

    def generate(self, trajectory_id, token_ids, params):  # type: ignore[no-untyped-def]
        self._rig.requests.append((trajectory_id, tuple(token_ids)))
        return super().generate(trajectory_id, token_ids, params)


async def _no_concern(prompt: list[int]) -> str | None:
    return None


def problem(name: str = "p", answer: int | None = None) -> Problem:
    """A problem with a short statement."""
    return Problem(name, "1+1?", answer)


def budget(seconds: float, reserve: float = 0.0) -> ProblemBudget:
    """A budget that begins now, on the running loop."""
    return ProblemBudget(seconds, reserve, asyncio.get_running_loop().time() + seconds)


def every(texts: Sequence[str], name: str = "p") -> dict[str, str]:
    """Scripts by trajectory: `texts[i]` is what trajectory i of problem `name` says."""
    return {f"{name}#{index}": text for index, text in enumerate(texts)}
