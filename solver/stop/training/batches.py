"""Which examples are validated on, and in which batches the others are learned; all seeded."""

from __future__ import annotations

import random
from collections.abc import Sequence

from solver.errors import InputError
from solver.stop.rollouts.examples import StopExample

_POOL = 16  # batches whose examples are sorted by length together


def split_by_problem(
    examples: Sequence[StopExample], share: float, seed: int
) -> tuple[list[StopExample], list[StopExample]]:
    """(training, validation): whole problems, about `share` of them in validation.

    A problem's prefixes resemble each other: split by row, validation would flatter. Raises
    `InputError` for a single problem.
    """
    problems = sorted({example.problem_id for example in examples})
    if len(problems) < 2:
        raise InputError("the examples are of one problem: there is nothing to validate on")
    random.Random(f"split {seed}").shuffle(problems)
    count = min(len(problems) - 1, max(1, round(share * len(problems))))
    held_out = set(problems[:count])
    training = [example for example in examples if example.problem_id not in held_out]
    validation = [example for example in examples if example.problem_id in held_out]
    return training, validation


def plan_epoch(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of indices for one epoch: every index once, lengths alike within a batch.

    Shuffled, sorted by length within pools of a few batches, cut, and the batches shuffled again: it
    depends on seed and epoch alone, so a resumed training sees the same batches.
    """
    draw = random.Random(f"epoch {seed} {epoch}")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * _POOL):
        pool = sorted(order[start : start + batch_size * _POOL], key=lengths.__getitem__)
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    draw.shuffle(batches)
    return batches
