"""Ways to judge a prefix at the mark: each is one declaration, found by its name.

This package owns what a scorer is and the scorers that are shipped; it decides neither who is kept
(`solver.policy`) nor how adapters are made (`solver.stop`).
"""

from solver.policy.prune import Selection
from solver.scorers.declaration import Need, ScorerContext, ScorerDeclaration
from solver.scorers.registry import find_scorer, gives_chances, scorer_names

__all__ = [
    "Need",
    "ScorerContext",
    "ScorerDeclaration",
    "Selection",
    "find_scorer",
    "gives_chances",
    "scorer_names",
]
