"""The ablation as Markdown, CSV and pictures. Shares are printed in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from solver.errors import InputError
from solver.files.tables import bracketed, markdown_table, percent, points
from solver.files.whole import write_whole
from solver.policy.statistics import Interval
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.stop import STOP
from solver.stop.ablation.grid import AXES, BASE, Facts, base_value
from solver.stop.ablation.pictures import draw_axes, draw_transfer, drawn_axes
from solver.stop.ablation.results import Result
from solver.stop.ablation.table import (
    METRICS,
    Line,
    csv_of,
    difference_of,
    interval_of,
    lines_of,
    pooled,
)

_NUMBERS = ("AUROC within", "average", "vote")
_AT_OTHER_MARKS = ("prefix", "mark")  # where confidence is another one too


def write_ablation(
    out: Path,
    results: Sequence[Result],
    facts: Facts,
    notes: Mapping[str, str],
    head: Sequence[str],
    seed: int,
) -> list[Path]:
    """Write README.md, table.csv and the pictures into `out`; `results` begin with the base.

    `head` stands above the tables, `notes` say by axis what could not be done.
    """
    lines = lines_of(results, seed)
    base = next(line for line in lines if (line.axis, line.method) == (BASE, STOP.name))
    transfer = _transfer(results)
    drawn = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        if drawn_axes(lines):
            drawn.append(out / "axes.png")
            draw_axes(drawn[-1], lines, facts)
        if transfer:
            drawn.append(out / "transfer.png")
            draw_transfer(drawn[-1], transfer, results[0], seed)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    parts = [*head, "", *_base_table(lines)]
    for axis in AXES:
        shown = (STOP.name, CONFIDENCE.name) if axis in _AT_OTHER_MARKS else (STOP.name,)
        found = [line for line in lines if line.axis == axis and line.method in shown]
        if not found and axis not in notes:
            continue
        parts += [f"## {axis}", "", AXES[axis], ""]
        if axis in notes:
            parts += [f"Not done: {notes[axis]}.", ""]
        if axis == "transfer" and transfer:
            parts += _transfer_table(transfer, results[0], seed)
        elif found:
            parts += _axis_table(found, base, base_value(axis, facts))
    parts += [f"![{path.stem}]({path.name})" for path in drawn]
    write_whole(out / "README.md", "\n".join(parts).rstrip() + "\n")
    write_whole(out / "table.csv", csv_of(lines))
    return [out / "README.md", out / "table.csv", *drawn]


def _base_table(lines: Sequence[Line]) -> list[str]:
    rows = [[line.method, *_three(line.numbers)] for line in lines if line.axis == BASE]
    table = markdown_table(["method", *_NUMBERS], rows)
    return ["## The base, and what it is compared with", "", *table, ""]


def _axis_table(lines: Sequence[Line], base: Line, at_base: str) -> list[str]:
    head = [
        "value", "problems", "prefixes", *_NUMBERS, "average - base, points", "vote - base, points",
        "training, s", "CPU, s",
    ]  # fmt: skip
    rows = []
    for line in (base, *sorted(lines, key=lambda line: line.method != STOP.name)):
        value = f"{at_base} (base)" if line is base else line.value
        trained = [str(line.trained_problems), str(line.trained_prefixes)]
        changes = [points(line.minus_base[what]) for what in ("average", "vote")]
        spent = [f"{line.seconds:.0f}", f"{line.cpu_seconds:.0f}"]
        if line.method != STOP.name:
            value, trained, spent = f"{value}, {line.method}", ["-", "-"], ["-", "-"]
        rows.append([value, *trained, *_three(line.numbers), *changes, *spent])
    return [*markdown_table(head, rows), ""]


def _transfer(results: Sequence[Result]) -> list[Result]:
    """The folds of the finest division that was run, and all of them as one."""
    folds = [result for result in results if result.axis == "transfer"]
    finest = max((_num_folds(fold) for fold in folds), default=0)
    folds = [fold for fold in folds if _num_folds(fold) == finest]
    return [*folds, pooled(folds, "all")] if len(folds) > 1 else folds


def _num_folds(fold: Result) -> int:
    return int(fold.value.partition("of")[2])


def _transfer_table(folds: Sequence[Result], base: Result, seed: int) -> list[str]:
    parts = []
    for what, title in zip(METRICS, _NUMBERS, strict=True):
        head = [
            title, "problems", "STOP without these families", "STOP trained on all", "confidence",
            "without - confidence", "without - trained on all",
        ]  # fmt: skip
        rows = []
        for fold in folds:
            ids = frozenset(fold.problem_ids)
            rows.append(
                [
                    "all folds" if fold.value == "all" else ", ".join(fold.families),
                    str(len(fold.problem_ids)),
                    _number(interval_of(fold, STOP.name, what, seed), what),
                    _number(interval_of(base, STOP.name, what, seed, ids), what),
                    _number(interval_of(fold, CONFIDENCE.name, what, seed), what),
                    *(
                        points(difference_of((fold, STOP.name), theirs, what, seed))
                        for theirs in ((fold, CONFIDENCE.name), (base, STOP.name))
                    ),
                ]
            )
        parts += [*markdown_table(head, rows), ""]
    return parts


def _three(numbers: Mapping[str, Interval | None]) -> list[str]:
    return [_number(numbers[what], what) for what in METRICS]


def _number(interval: Interval | None, what: str) -> str:
    return bracketed(interval) if what == "within" else percent(interval)
