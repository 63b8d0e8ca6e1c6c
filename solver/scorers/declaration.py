"""What a scorer is: one declaration, which answers whatever the rest of the solver asks about it.

A declaration imports neither torch nor transformers, since commands read it before they load a model:
what needs them is imported in the function that `open` names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from solver.config import SolverConfig
from solver.dialects.base import Dialect
from solver.errors import ScorerError
from solver.policy.prune import Selection
from solver.ports import Engine, Scorer
from solver.scorers.folders import adapter_folder, reward_folder
from solver.types import Trajectory


class Need(StrEnum):
    """What a scorer cannot work without."""

    CANDIDATES = (
        "candidates"  # the engine tells entropy and confidence of the best ids of each draw
    )
    ADAPTER = "adapter"  # a STOP adapter that the engine reads
    COMBINER = "combiner"  # an adapter that was trained with a combiner
    REWARD_MODEL = "reward model"
    STATES = "states"  # the engine tells the model's last hidden states: the in-process one


@dataclass(frozen=True, slots=True)
class ScorerContext:
    """What a scorer is opened with.

    `marks` are the numbers of sampled tokens at which prefixes are scored, none for the last check; with
    `any_mark` the scorer is asked at others too, so that an adapter is not refused for the marks it was
    trained at. `shared` holds what several scorers use, and those of several marks; `closing` closes what
    they opened.
    """

    config: SolverConfig
    engine: Engine
    dialect: Dialect
    model_folder: Path
    marks: tuple[int, ...]
    closing: AsyncExitStack
    any_mark: bool = False
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def adapter(self) -> Path:
        """The adapter's folder. Raises `PartMissing` if none is configured or shipped."""
        return adapter_folder(self.config)

    @property
    def reward_model(self) -> Path:
        """The reward model's folder. Raises `PartMissing` if none is configured or shipped."""
        return reward_folder(self.config)


Compute = Callable[[Sequence[Trajectory], int], Sequence[float]]
Open = Callable[[ScorerContext], Awaitable[Scorer]]


@dataclass(frozen=True, slots=True)
class ScorerDeclaration:
    """A way to judge prefixes at the mark, under the name that `--scorer` takes.

    A scorer that needs the trajectories only is a pure function `compute(prefixes, mark)`: one finite
    score a prefix, higher is better; it raises `ScorerError` if the engine did not tell what it needs.
    Replays and evaluations call it on recorded trajectories. Any other scorer is opened:
    `await open(context)`, which raises `ModelError` or `ConfigError` for parts that do not fit and
    `PartMissing` where there is none. `selection` is for methods without scores, which set neither.

    `gives_chances`: scores are logits of "this prefix ends right", by which a vote may be weighed.
    """

    name: str
    compute: Compute | None = None
    open: Open | None = None
    needs: frozenset[Need] = frozenset()
    gives_chances: bool = False
    selection: Selection = Selection.BEST

    def __post_init__(self) -> None:
        """Raises ValueError unless there is exactly one way to the scores, or none to be had."""
        ways = (self.compute is not None) + (self.open is not None)
        if ways != (self.selection is Selection.BEST):
            raise ValueError(f"the scorer {self.name} needs either compute or open")

    def scores(self, prefixes: Sequence[Trajectory], mark: int) -> list[float]:
        """What `compute` gives, as many as there are prefixes. Raises `ScorerError`."""
        if self.compute is None:
            raise ScorerError(f"the scores of {self.name} cannot be computed from trajectories")
        scores = list(self.compute(prefixes, mark))
        if len(scores) != len(prefixes):
            raise ScorerError(f"{self.name} gave {len(scores)} scores to {len(prefixes)} prefixes")
        return scores

    async def opened(self, context: ScorerContext) -> Scorer | None:
        """The scorer, ready to be asked; None for a method without scores. Raises what `open` does."""
        if self.open is not None:
            return await self.open(context)
        return ComputedScorer(self) if self.compute is not None else None


class ComputedScorer:
    """A declaration's pure function as a `Scorer`."""

    def __init__(self, declaration: ScorerDeclaration) -> None:
        self.name = declaration.name
        self._declaration = declaration

    async def score(self, trajectories: Sequence[Trajectory], deadline: float) -> list[float]:
        """One score a trajectory; `deadline` is not looked at: nothing is waited for.

        The mark is what the longest of them has sampled: at a check all stand at it.
        """
        mark = max((t.num_sampled_tokens for t in trajectories), default=0)
        return self._declaration.scores(trajectories, mark)
