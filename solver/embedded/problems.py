"""Problems and the hold-out: which (family, numbers) belongs to which split.

The split is decided by a hash of the family's name and the numbers, never the wording, so no two
splits share a setting whatever is asked about it.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random

from solver.embedded.families import FAMILIES, Family, Kind, Numbers, answer_of, is_sound
from solver.errors import InputError

_TRIES = 20_000


class Split(StrEnum):
    """Which part of the settings a problem is drawn from."""

    MODEL = "model"  # the language model's corpus
    STOP = "stop"  # training of adapters
    VALIDATION = "validation"
    TEST = "test"


# Upper ends, in hundredths of the hash range.
_ENDS = ((Split.MODEL, 60), (Split.STOP, 80), (Split.VALIDATION, 90), (Split.TEST, 100))


@dataclass(frozen=True, slots=True)
class EmbeddedProblem:
    """A problem of a family. `reading` names the reading that its wording asks for."""

    id: str
    family: str
    kind: Kind
    statement: str
    answer: int
    numbers: Numbers
    reading: str


def _digest(family: str, numbers: Numbers) -> str:
    key = "|".join([family, *(f"{name}={numbers[name]}" for name in sorted(numbers))])
    return hashlib.sha256(key.encode()).hexdigest()


def split_of(family: str, numbers: Numbers) -> Split:
    """The one split that this family with these numbers belongs to."""
    place = int(_digest(family, numbers)[:16], 16) * 100 >> 64
    return next(split for split, end in _ENDS if place < end)


def split_of_id(problem_id: str) -> Split | None:
    """The split of the problem with this id; None if it is not of an embedded family.

    An id ends in the first 12 of the hash's digits, which are enough to find its split.
    """
    family, _, digits = problem_id.rpartition("-")
    known = any(family == each.name for each in FAMILIES)
    if not known or not re.fullmatch("[0-9a-f]{12}", digits):
        return None
    place = int(digits, 16) * 100 >> 48
    return next(split for split, end in _ENDS if place < end)


def draw(family: Family, split: Split, rng: Random) -> EmbeddedProblem:
    """One problem of the family in the split, in a wording chosen at random."""
    for _ in range(_TRIES):
        numbers = family.sample(rng)
        if split_of(family.name, numbers) is split and is_sound(family, numbers):
            reading = rng.choice(family.readings)
            return EmbeddedProblem(
                id=f"{family.name}-{_digest(family.name, numbers)[:12]}",
                family=family.name,
                kind=family.kind,
                statement=family.text(rng.choice(family.statements), reading, numbers),
                answer=answer_of(family, reading, numbers),
                numbers=numbers,
                reading=reading.name,
            )
    raise RuntimeError(f"{family.name}: no usable numbers in {_TRIES} tries")


def _interleaved(rng: Random) -> list[Family]:
    """All families, shuffled within their kinds, with alternating kinds."""
    shuffled = rng.sample(FAMILIES, len(FAMILIES))
    turns = ([family for family in shuffled if family.kind is kind] for kind in Kind)
    return [family for turn in zip(*turns, strict=True) for family in turn]


def problems(split: Split | str, num: int, seed: int) -> list[EmbeddedProblem]:
    """`num` problems of a split, shuffled by the seed: equal shares of families, no setting twice.

    Kinds alternate, so a multiple of 3 is balanced over kinds.

    Raises InputError for a split that does not exist, for `num` below 1, and when a family has
    fewer settings left than asked for.
    """
    if split not in list(Split):
        raise InputError(f"no such split: {split}; choose one of {', '.join(Split)}")
    if num < 1:
        raise InputError(f"the number of problems must be at least 1, not {num}")
    rng = Random(f"problems:{split}:{seed}")
    order = _interleaved(rng)
    chosen: dict[str, EmbeddedProblem] = {}
    for index in range(num):
        family = order[index % len(order)]
        for _ in range(_TRIES):
            problem = draw(family, Split(split), rng)
            if problem.id not in chosen:
                break
        else:
            raise InputError(f"{family.name} has too few problems in {split} for {num} in all")
        chosen[problem.id] = problem
    result = list(chosen.values())
    rng.shuffle(result)
    return result


def write_csv(rows: Iterable[EmbeddedProblem], path: Path) -> None:
    """Write problems as a CSV file with the columns id, problem, answer, family, kind."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "problem", "answer", "family", "kind"])
        for row in rows:
            writer.writerow([row.id, row.statement, row.answer, row.family, row.kind.value])
