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


def plan_epoch(
    lengths: Sequence[int],
    batch_size: int,
    seed: int,
    epoch: int,
    counts: Sequence[int] | None = None,
) -> list[list[int]]:
    """Batches of indices for one epoch: every index once, lengths alike within a batch.

    An index stands for `counts` examples (1 each, by default), of which a batch has at most `batch_size`,
    unless one index alone has more. Shuffled, sorted by length within pools of a few batches, cut, and the
    batches shuffled again: it depends on seed and epoch alone, so a resumed training sees the same batches.
    """
    draw = random.Random(f"epoch {seed} {epoch}")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    sizes = counts or [1] * len(lengths)
    batches = []
    for pool in in_runs(order, sizes, batch_size * _POOL):
        batches += in_runs(sorted(pool, key=lengths.__getitem__), sizes, batch_size)
    draw.shuffle(batches)
    return batches


def in_runs(order: Sequence[int], counts: Sequence[int], most: int) -> list[list[int]]:
    """`order` in runs whose `counts` add up to at most `most`; an index with more is a run of its own."""
    runs: list[list[int]] = []
    total = most
    for index in order:
        if total + counts[index] > most:
            runs.append([])
            total = 0
        runs[-1].append(index)
        total += counts[index]
    return runs
