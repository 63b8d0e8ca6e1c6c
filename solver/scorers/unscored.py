"""The methods without scores, which every scorer is compared with."""

from __future__ import annotations

from solver.policy.prune import Selection
from solver.scorers.declaration import ScorerDeclaration

RANDOM = ScorerDeclaration("random", selection=Selection.RANDOM)
NONE = ScorerDeclaration("none", selection=Selection.ALL)
