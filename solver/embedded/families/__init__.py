"""The problem families of the embedded model, four of each kind."""

from solver.embedded.families.base import (
    MAX_ANSWER,
    SHARES,
    Family,
    Kind,
    Numbers,
    Outcome,
    Reading,
    Step,
    answer_of,
    first_number,
    is_sound,
    run_cells,
)
from solver.embedded.families.counting import COINS, MULTIPLES, TRIPLES
from solver.embedded.families.digits import DIGIT_SUM, DIGIT_WALK, IN_BASE
from solver.embedded.families.lattice import ELLIPSE, PAIRS, PRODUCT
from solver.embedded.families.sequences import DIVISORS, POWER_SUM, RECURRENCE

FAMILIES: tuple[Family, ...] = (
    DIGIT_SUM,
    IN_BASE,
    POWER_SUM,
    RECURRENCE,
    COINS,
    MULTIPLES,
    DIVISORS,
    TRIPLES,
    DIGIT_WALK,
    PAIRS,
    ELLIPSE,
    PRODUCT,
)

__all__ = [
    "FAMILIES",
    "MAX_ANSWER",
    "SHARES",
    "Family",
    "Kind",
    "Numbers",
    "Outcome",
    "Reading",
    "Step",
    "answer_of",
    "first_number",
    "is_sound",
    "run_cells",
]
