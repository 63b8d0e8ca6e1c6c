"""A policy: one value of each setting that a replay can vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from solver.config import SolverConfig, VoteConfig
from solver.types import Check


@dataclass(frozen=True, slots=True)
class Policy:
    """Launch `launch`, prune at `checks` by `scorer`, vote by `vote`; `limit_s` for the whole run."""

    launch: int
    checks: tuple[Check, ...]
    scorer: str
    vote: VoteConfig
    limit_s: float | None = None

    @classmethod
    def of(cls, config: SolverConfig) -> Self:
        """The policy that a run was configured with."""
        prune = config.prune
        limit = config.budget.time_limit_s
        return cls(prune.launch, prune.checks, prune.scorer, config.vote, limit)

    def config(self, base: SolverConfig) -> SolverConfig:
        """The config of an ordinary run under this policy, all else as in `base`."""
        changes = {
            "prune": {
                "launch": self.launch,
                "keep": self.checks[-1].keep,
                "mark": self.checks[0].mark,
                "stages": self.checks if len(self.checks) > 1 else None,
                "scorer": self.scorer,
            },
            "budget": {"time_limit_s": self.limit_s},
            "vote": self.vote.model_dump(),
        }
        fields = base.model_dump() | {"record": "run", "record_marks": ()}
        for section, values in changes.items():
            fields[section] = fields[section] | values
        return SolverConfig.model_validate(fields)
