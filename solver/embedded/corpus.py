"""Trajectories of the corpus: right ones, misread ones and other mistakes, in fixed shares.

Every number a trajectory shows comes from running its own code, so a mistake leads where it
really leads. Sampled text is what the model is to write; tool outputs are only its context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from solver.embedded.families import (
    FAMILIES,
    MAX_ANSWER,
    SHARES,
    Family,
    Numbers,
    Outcome,
    Reading,
    first_number,
    run_cells,
)
from solver.embedded.problems import EmbeddedProblem, Split, draw

# Shares of the real kinds of mistakes inside Outcome.OTHER: two before the mark, three after it.
OTHER_SHARES: Mapping[str, float] = {
    "mistaken_reading": 0.45,
    "number_miscopied_in_plan": 0.30,
    "slip_in_code": 0.10,
    "number_miscopied_in_code": 0.08,
    "output_miscopied": 0.07,
}

_RETRIES = 50
_READS = ("The output is $out.", "It prints $out.", "I see $out.")
_AGREE = ("The check agrees: $ans.", "Both ways give $ans.", "The check gives $ans as well.")
_DIFFER = ("The check gives $again, but I keep $ans.", "The ways differ; I keep $ans.")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the assistant's turn: `sampled` text of the model, or a tool's output."""

    text: str
    sampled: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """A trajectory of the corpus. `plan` is the start of the first segment, up to the first step."""

    problem: EmbeddedProblem
    outcome: Outcome
    mistake: str
    reading: str
    plan: str
    cells: tuple[str, ...]
    outputs: tuple[str, ...]
    segments: tuple[Segment, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class _Work:
    """What a trajectory is made from: numbers as planned, numbers and pieces as coded."""

    reading: Reading
    planned: Numbers
    coded: Numbers
    slip: tuple[str, str] | None = None
    miscopy_output: bool = False


def code_block(code: str) -> str:
    """A tool call as the model writes it."""
    return f"```python\n{code}\n```\n"


def output_block(stdout: str) -> str:
    """A tool's output as it is appended after a call; `stdout` ends with a newline or is empty."""
    return f"```output\n{stdout}```\n"


def miscopy(number: int, rng: Random) -> int:
    """The number with one digit changed, at least 2 and never the number itself."""
    while True:
        digits = list(str(number))
        place = rng.randrange(len(digits))
        digits[place] = rng.choice("0123456789")
        changed = int("".join(digits))
        if changed != number and changed >= 2 and len(str(changed)) == len(digits):
            return changed


def _one_miscopied(numbers: Numbers, rng: Random) -> Numbers:
    name = rng.choice(sorted(numbers))
    return {**numbers, name: miscopy(numbers[name], rng)}


def _plan_work(
    family: Family, problem: EmbeddedProblem, outcome: Outcome, mistake: str, rng: Random
) -> _Work:
    asked = next(r for r in family.readings if r.name == problem.reading)
    other = next(r for r in family.readings if r.name != problem.reading)
    numbers = problem.numbers
    if outcome is Outcome.RIGHT:
        return _Work(asked, numbers, numbers)
    if outcome is Outcome.WRONG:
        return _Work(other, numbers, numbers)
    if mistake == "mistaken_reading":
        return _Work(rng.choice(family.mistaken), numbers, numbers)
    # Other mistakes occur in both readings, as often as the kind has each of them.
    shares = SHARES[family.kind]
    odds = [shares[Outcome.RIGHT], shares[Outcome.WRONG]]
    reading = rng.choices((asked, other), odds)[0]
    if mistake == "number_miscopied_in_plan":
        changed = _one_miscopied(numbers, rng)
        return _Work(reading, changed, changed)
    if mistake == "slip_in_code":
        return _Work(reading, numbers, numbers, slip=rng.choice(family.slips))
    if mistake == "number_miscopied_in_code":
        return _Work(reading, numbers, _one_miscopied(numbers, rng))
    return _Work(reading, numbers, numbers, miscopy_output=True)


def _cells(family: Family, work: _Work) -> list[str]:
    cells = []
    for index, step in enumerate(family.steps):
        template = step.code
        if work.slip and index == 0:
            template = template.replace(*work.slip)
        cells.append(family.text(template, work.reading, work.coded))
    return cells


def _say(templates: tuple[str, ...], rng: Random, **slots: object) -> str:
    text = rng.choice(templates)
    for name, value in slots.items():
        text = text.replace(f"${name}", str(value))
    return text


def _segments(
    family: Family,
    work: _Work,
    cells: list[str],
    outputs: list[str],
    answer: int,
    plan: str,
    rng: Random,
) -> tuple[Segment, ...]:
    segments = []
    before = plan
    for step, cell, output in zip(family.steps, cells, outputs, strict=True):
        # Prose repeats the reading, which carries it from the plan to the code.
        prose = family.text(rng.choice(step.prose), work.reading, work.planned)
        text = f"{before}{prose}\n{code_block(cell)}"
        segments += [Segment(text, True), Segment(output_block(output), False)]
        # Only a single number is repeated in prose: long outputs cost tokens and add nothing.
        number = output.strip()
        before = _say(_READS, rng, out=number) + " " if number.isdigit() else ""
    again, _, agrees = outputs[-1].strip().partition(" ")
    close = _say(_AGREE if agrees == "True" else _DIFFER, rng, ans=answer, again=again)
    segments.append(Segment(f"{close}\nThe answer is \\boxed{{{answer}}}.", True))
    return tuple(segments)


def _attempt(
    family: Family, problem: EmbeddedProblem, outcome: Outcome, mistake: str, rng: Random
) -> Draft | None:
    work = _plan_work(family, problem, outcome, mistake, rng)
    cells = _cells(family, work)
    outputs = run_cells(cells)
    answered = [out for step, out in zip(family.steps, outputs, strict=True) if not step.check]
    answer = first_number(answered[-1])
    if work.miscopy_output:
        answer = miscopy(answer, rng)
    if (answer == problem.answer) != (outcome is Outcome.RIGHT) or not 0 <= answer <= MAX_ANSWER:
        return None
    plan = family.text(rng.choice(family.plans), work.reading, work.planned) + "\n"
    segments = _segments(family, work, cells, outputs, answer, plan, rng)
    return Draft(
        problem,
        outcome,
        mistake,
        work.reading.name,
        plan,
        tuple(cells),
        tuple(outputs),
        segments,
        answer,
    )


def write(problem: EmbeddedProblem, family: Family, rng: Random) -> Draft:
    """A trajectory for the problem, right or with a mistake, in the shares of the family's kind."""
    shares = SHARES[family.kind]
    outcome = rng.choices(list(shares), list(shares.values()))[0]
    mistake = ""
    if outcome is Outcome.OTHER:
        mistake = rng.choices(list(OTHER_SHARES), list(OTHER_SHARES.values()))[0]
    for _ in range(_RETRIES):
        draft = _attempt(family, problem, outcome, mistake, rng)
        if draft is not None:
            return draft
    # Some mistakes cannot change some answers; a miscopied output always does.
    draft = _attempt(family, problem, Outcome.OTHER, "output_miscopied", rng)
    if draft is None:
        raise RuntimeError(f"{problem.id}: no mistake changes the answer")
    return draft


def trajectory(index: int, seed: int) -> Draft:
    """The corpus' trajectory number `index`; families alternate, and no index depends on another."""
    rng = Random(f"corpus:{seed}:{index}")
    family = FAMILIES[index % len(FAMILIES)]
    return write(draw(family, Split.MODEL, rng), family, rng)
