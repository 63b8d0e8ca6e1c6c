"""Seeds by name: what a trajectory draws does not depend on order, process or how many there are."""

from __future__ import annotations

import hashlib
import json


def trajectory_seed(run_seed: int, problem_id: str, index: int) -> int:
    """A seed in 0..2**63 - 1 that depends on these three alone, the same on every machine."""
    name = json.dumps([run_seed, problem_id, index])
    digest = hashlib.sha256(name.encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def prune_seed(run_seed: int, problem_id: str, draw: int = 0) -> int:
    """The seed of a choice at the mark; `draw` 0 is the run's own, others are for repetitions of it."""
    return trajectory_seed(run_seed, problem_id, -1 - draw)
