"""External, not learned (kind I): a prefix whose tool calls failed comes last."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.result import ExecutionStatus
from solver.scorers.declaration import ScorerDeclaration
from solver.types import Trajectory


def failed_calls(prefixes: Sequence[Trajectory], mark: int) -> list[float]:
    """Minus the number of calls of each prefix that did not end well (an exception, a timeout, ...)."""
    return [
        -float(
            sum(
                turn.execution is not None and turn.execution.status is not ExecutionStatus.OK
                for turn in prefix.turns
            )
        )
        for prefix in prefixes
    ]


FAILED_CALLS = ScorerDeclaration("failed-tool-calls", compute=failed_calls)
