"""What a problem family is: numbers, two readings of one statement, and the work as templates.

A statement asks for one of two readings; its wording alone says which. A trajectory states the
reading it took, with its numbers, then works it out in code. Templates hold `$name` slots: first
a reading's `parts` are filled in, then the numbers (parts may hold number slots themselves).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from string import Template

Numbers = dict[str, int]

MAX_ANSWER = 99_999


class Kind(StrEnum):
    """How often the corpus takes the right reading; fixed before anything was measured."""

    COMMON = "common"
    TIE = "tie"
    CONTRARY = "contrary"


class Outcome(StrEnum):
    """What a trajectory of the corpus does."""

    RIGHT = "right"
    WRONG = "wrong"  # the reading that the other wording asks for
    OTHER = "other"  # any other mistake


SHARES: Mapping[Kind, Mapping[Outcome, float]] = {
    Kind.COMMON: {Outcome.RIGHT: 0.60, Outcome.WRONG: 0.25, Outcome.OTHER: 0.15},
    Kind.TIE: {Outcome.RIGHT: 0.40, Outcome.WRONG: 0.40, Outcome.OTHER: 0.20},
    Kind.CONTRARY: {Outcome.RIGHT: 0.35, Outcome.WRONG: 0.45, Outcome.OTHER: 0.20},
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the statement: the words a plan says it in, and the code that follows."""

    name: str
    parts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """Prose, then one code cell. A `check` prints its own value and whether it equals the answer."""

    prose: tuple[str, ...]
    code: str
    check: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """A family of integer-answer problems.

    `readings` are the two that a wording can ask for, `mistaken` those no wording asks for. The
    first number printed by the last step that is no check is the trajectory's answer. `slips` are
    (right, wrong) pieces of the first cell: mistakes that code makes though the plan is sound.
    `defaults` are the parts of readings that do not say otherwise.
    """

    name: str
    kind: Kind
    sample: Callable[[Random], Numbers]
    statements: tuple[str, ...]
    plans: tuple[str, ...]
    readings: tuple[Reading, Reading]
    mistaken: tuple[Reading, ...]
    steps: tuple[Step, ...]
    slips: tuple[tuple[str, str], ...]
    defaults: Mapping[str, str] = field(default_factory=dict)

    def text(self, template: str, reading: Reading, numbers: Mapping[str, int]) -> str:
        """Fill a template with the reading's words and the numbers; an empty slot raises KeyError."""
        return fill(template, {**self.defaults, **reading.parts}, numbers)


def fill(template: str, parts: Mapping[str, str], numbers: Mapping[str, int]) -> str:
    """Fill a reading's parts, then the numbers, into a template; a slot without a value raises."""
    half = Template(template).safe_substitute(parts)
    return Template(half).substitute(numbers)


def run_cells(cells: list[str]) -> list[str]:
    """Run trusted cells of this package in one namespace; returns what each of them printed."""
    printed: list[str] = []

    def keep(*values: object) -> None:
        printed.append(" ".join(str(value) for value in values) + "\n")

    namespace: dict[str, object] = {"print": keep}
    outputs = []
    for cell in cells:
        printed.clear()
        exec(cell, namespace)
        outputs.append("".join(printed))
    return outputs


def first_number(output: str) -> int:
    """The first whitespace-separated word of a cell's output, as an integer."""
    return int(output.split(maxsplit=1)[0])


def answer_of(family: Family, reading: Reading, numbers: Numbers) -> int:
    """The answer this reading leads to, by running its own code without mistakes."""
    cells = [family.text(step.code, reading, numbers) for step in family.steps if not step.check]
    return first_number(run_cells(cells)[-1])


def is_sound(family: Family, numbers: Numbers) -> bool:
    """Whether the two readings differ in answer and both answers lie in 1..99999."""
    first, second = (answer_of(family, reading, numbers) for reading in family.readings)
    return first != second and min(first, second) >= 1 and max(first, second) <= MAX_ANSWER
