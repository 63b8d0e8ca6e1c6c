"""The grid of an ablation: axes, their values in the small and the full grid, and the points. Pure.

Every point changes one thing of the base point: the user's data, mark and recipe as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from solver.errors import ConfigError

BASE = "base"
AXES = {
    "noise": "Label noise: this share of all labels s, training and validation, became 1 - s.",
    "balance": "Right ends among those trained on. The same prefixes, weighted anew: what resampling"
    " right and wrong ends in this proportion would give on average.",
    "problems": "Problems trained on, drawn at random; each smaller set is part of the larger ones.",
    "continuations": "Ends a label: at most so many of the stored ends of a prefix, drawn without"
    " replacement, make its label.",
    "rank": "Rank of the low-rank deltas; alpha is 2 x rank.",
    "stop_tokens": "Number of [STOP] tokens.",
    "head_only": "No LoRA: embeddings and head are trained, the deltas are scaled to nothing.",
    "seed": "Another training seed (weights, order): what differs by less than this is noise.",
    "prefix": "Prefix length: the base adapter, trained at its own mark, used at another one. Differences"
    " of confidence are from confidence at the base's mark.",
    "mark": "Mark: the same rollouts cut anew; trained and evaluated at another mark.",
    "transfer": "Whole families left out of training; evaluated on the left-out families only.",
}
_SHARES = frozenset({"noise", "balance"})
UNTRAINED = frozenset({"prefix"})  # these points use the base point's adapter

# "problems", "prefix" and "mark" are shares of the base's; "transfer" is the number of folds.
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "small": {
        "noise": (0.1, 0.3),
        "balance": (0.1, 0.9),
        "problems": (1 / 8, 1 / 4, 1 / 2),
        "continuations": (1,),
        "rank": (4, 64),
        "stop_tokens": (1, 8),
        "head_only": (1,),
        "seed": (1,),
        "prefix": (0.5, 0.75, 1.5),
        "mark": (0.5, 0.75, 1.5),
        "transfer": (3,),
    },
    "full": {
        "noise": (0.05, 0.1, 0.2, 0.3, 0.4),
        "balance": (0.05, 0.1, 0.25, 0.5, 0.75, 0.9),
        "problems": (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4),
        "continuations": (1, 2, 4, 8, 16),
        "rank": (1, 2, 4, 8, 16, 32, 64, 128),
        "stop_tokens": (1, 2, 3, 4, 5, 6, 7, 8, 9),
        "head_only": (1,),
        "seed": (1, 2, 3, 4),
        "prefix": (0.25, 0.5, 0.75, 1.25, 1.5, 2),
        "mark": (0.25, 0.5, 0.75, 1.25, 1.5, 2),
        "transfer": (1000,),  # every family by itself
    },
}


@dataclass(frozen=True, slots=True)
class Point:
    """One training and evaluation (or evaluation alone): the base with one thing changed."""

    axis: str
    value: str
    families: tuple[str, ...] = ()  # left out, on the axis "transfer"

    @property
    def name(self) -> str:
        """A name for files and progress."""
        return self.axis if self.axis == BASE else f"{self.axis}-{self.value}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the data allow. `families` gives the kind of each.

    The evaluation rollouts can be cut at `longest_prefix`, those of both sides at `longest_mark`
    (0: the data's are not known).
    """

    mark: int
    longest_prefix: int
    longest_mark: int
    right_share: float  # of the ends trained on
    num_problems: int
    most_ends: int  # of one label
    rank: int
    stop_tokens: int | str  # their number, or the text that they begin as
    seed: int
    families: Mapping[str, str]


def plan_points(
    grid: str,
    only: Collection[str],
    facts: Facts,
    given: Mapping[str, tuple[float, ...]] | None = None,
) -> tuple[list[Point], dict[str, str]]:
    """The base, then the points of the axes in `only` (all, if empty); and why axes have fewer points.

    `given` replaces the grid's values of an axis by others, which are meant as they are: numbers of problems,
    marks. Points that are evaluated at one mark stand together. Raises `ConfigError` for unknown names and
    impossible values.
    """
    given = given or {}
    if grid not in GRIDS:
        raise ConfigError(f"--grid is {' or '.join(GRIDS)}, not {grid!r}")
    if unknown := sorted({*only, *given} - set(AXES)):
        raise ConfigError(f"the axes are {', '.join(AXES)}, not {unknown[0]!r}")
    for axis, numbers in given.items():
        if not all(_possible(axis, number) for number in numbers):
            wanted = "between 0 and 1" if axis in _SHARES else "whole numbers from 1 on"
            raise ConfigError(f"--values {axis}: {wanted}, not {', '.join(map(_shown, numbers))}")
    axes = [axis for axis in AXES if axis in only or not only]
    points, notes = [Point(BASE, BASE)], {}
    for axis in axes:
        found, note = _values(axis, given.get(axis) or GRIDS[grid][axis], facts, axis in given)
        points += found
        if note:
            notes[axis] = note
    at_other_marks = [point for point in points if point.axis in ("prefix", "mark")]
    at_other_marks.sort(key=lambda point: int(point.value))
    others = [point for point in points if point not in at_other_marks]
    return others + at_other_marks, notes


def _possible(axis: str, number: float) -> bool:
    if axis in _SHARES:
        return 0 < number < 1
    return number == int(number) and (number >= 1 or (axis == "seed" and number >= 0))


def report_order(axis: str, value: str) -> tuple[int, float, str]:
    """A key that puts the base first, then axes and values in their order."""
    place = -1 if axis == BASE else list(AXES).index(axis)
    try:
        return place, float(value), ""
    except ValueError:
        return place, 0.0, value


def base_value(axis: str, facts: Facts) -> str:
    """The base's value on an axis, as tables show it."""
    known: dict[str, object] = {
        "noise": 0,
        "balance": f"{facts.right_share:.2f}",
        "problems": facts.num_problems,
        "continuations": facts.most_ends,
        "rank": facts.rank,
        "stop_tokens": facts.stop_tokens,
        "head_only": 0,
        "seed": facts.seed,
        "prefix": facts.mark,
        "mark": facts.mark,
    }
    return str(known.get(axis, BASE))


def _values(
    axis: str, wanted: tuple[float, ...], facts: Facts, exact: bool
) -> tuple[list[Point], str]:
    """The points of an axis, and why there are not as many as `wanted`; `exact` values are no shares."""
    if axis == "transfer":
        return _folds(int(wanted[0]), facts)
    note = ""
    values = list(wanted)
    if axis == "problems":
        counts = wanted if exact else [share * facts.num_problems for share in wanted]
        values = [max(2, round(count)) for count in counts if count <= facts.num_problems]
        if len(values) < len(counts):
            note = f"there are {facts.num_problems} problems to train on"
    elif axis == "continuations":
        values = [count for count in wanted if count < facts.most_ends]
        note = "" if values else "no label of these data rests on more than one known end"
    elif axis == "seed":
        values = [step if exact else facts.seed + step for step in wanted]
    elif axis in ("prefix", "mark"):
        marks = [max(1, round(share if exact else share * facts.mark)) for share in wanted]
        longest = facts.longest_mark if axis == "mark" else facts.longest_prefix
        values = [mark for mark in marks if mark <= longest]
        if not longest:
            note = "the data come without their rollouts and cannot be cut anew"
        elif len(values) < len(marks):
            note = f"the stored rollouts can be cut at {longest} tokens at most"
    texts = dict.fromkeys(_shown(value) for value in values)
    return [Point(axis, text) for text in texts if text != base_value(axis, facts)], note


def _shown(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _folds(count: int, facts: Facts) -> tuple[list[Point], str]:
    """Families assigned to folds kind by kind, so that each fold has some of every kind."""
    ranked = sorted(facts.families, key=lambda family: (facts.families[family], family))
    if len(ranked) < 2:
        return [], "the data name fewer than two families"
    count = min(count, len(ranked))
    folds = [tuple(ranked[start::count]) for start in range(count)]
    return [
        Point("transfer", f"{number}of{count}", fold) for number, fold in enumerate(folds, 1)
    ], ""
