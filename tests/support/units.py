"""Rollouts of made-up problems and their file: what the tests of the ablation run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from solver.stop.rollouts.file import SamplingHeader, write_rollouts
from solver.stop.rollouts.rollout import ProblemRollouts, Rollout, SavedTurn
from solver.types import StopReason

MARK, STORED, LAUNCH = 4, 6, 6
KINDS = {"coins": "tie", "dice": "tie", "sums": "common", "walks": "common"}


def units_of(count: int, name: str, launch: int = LAUNCH) -> list[ProblemRollouts]:
    """A rollout ends right if its second sampled id is 4, wrong if it is 5."""
    generator = torch.Generator().manual_seed(len(name))
    units = []
    for number in range(count):
        family = list(KINDS)[number % len(KINDS)]
        prompt = torch.randint(6, 36, (3,), generator=generator).tolist()
        rollouts = []
        for index in range(launch):
            ids = torch.randint(6, 36, (STORED,), generator=generator).tolist()
            ids[1] = 4 + (index + number) % 2
            if index == 1:
                ids = [*rollouts[0].turns[0].token_ids[:MARK], *ids[MARK:]]  # shares its prefix
            answer = 7 if ids[1] == 4 else 3
            turn = SavedTurn(token_ids=ids, logprobs=[-0.1 * (1 + i % 3) for i in ids])
            rollouts.append(
                Rollout(index=index, stop_reason=StopReason.ANSWERED, answer=answer,
                        num_sampled_tokens=STORED + 3 + index, turns=[turn])
            )  # fmt: skip
        units.append(
            ProblemRollouts(problem_id=f"{name}{number}", block=0, answer=7, rollouts=rollouts,
                            tags={"family": family, "kind": KINDS[family]}, prompt_token_ids=prompt)
        )  # fmt: skip
    return units


def header(**changes: Any) -> SamplingHeader:
    fields: dict[str, Any] = {
        "model": "m", "prompt": "bare", "seed": 0, "launch": LAUNCH, "continuations": 1,
        "stored_tokens": STORED, "share_calls": False, "sampling": {"temperature": 1.0}, **changes,
    }  # fmt: skip
    return SamplingHeader(**fields)


def save_units(path: Path, units: list[ProblemRollouts], **changes: Any) -> Path:
    write_rollouts(path, header(**changes), units)
    return path
