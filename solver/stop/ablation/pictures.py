"""The ablation as pictures: a panel an axis, and the transfer test as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from solver.policy.statistics import Interval
from solver.scorers.confidence import CONFIDENCE
from solver.scorers.stop import STOP
from solver.stop.ablation.grid import AXES, BASE, Facts, base_value
from solver.stop.ablation.results import Result
from solver.stop.ablation.table import METRICS, Line, interval_of
from solver.stop.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {"within": "AUROC within problems", "average": "average", "vote": "vote"}
_COLUMNS = 4


def drawn_axes(lines: Sequence[Line]) -> list[str]:
    """The axes that `draw_axes` has a panel for; it needs one at least."""
    found = {line.axis for line in lines if line.method == STOP.name}
    return [axis for axis in AXES if axis in found and axis != "transfer"]


def draw_axes(path: Path, lines: Sequence[Line], facts: Facts) -> None:
    """STOP along every axis, with 95 % intervals; the base stands at its place, marked by a ring."""
    stop = [line for line in lines if line.method == STOP.name]
    axes = drawn_axes(lines)
    figure, panels = new_figure(
        min(_COLUMNS, len(axes)), -(-len(axes) // _COLUMNS), width=4, height=3.4
    )
    base = next(line for line in stop if line.axis == BASE)
    for panel, axis in zip(panels, axes, strict=False):
        at_base = base_value(axis, facts)
        named = [(at_base, base)]
        named += [(line.value, line) for line in stop if line.axis == axis]
        named.sort(key=lambda pair: _place(pair[0]))
        for what in METRICS:
            points = [(i, x) for i, (_, line) in enumerate(named) if (x := line.numbers[what])]
            aside = 0.06 * (METRICS.index(what) - 1)  # so that no interval hides another
            places = [i + aside for i, _ in points]
            _errors(panel, places, [x for _, x in points], _LABELS[what])
            for place, interval in points:
                if named[place][1] is base:
                    panel.plot(
                        place + aside,
                        interval.value,
                        "o",
                        color="black",
                        fillstyle="none",
                        markersize=9,
                    )
        panel.set_xticks(range(len(named)), [value for value, _ in named])
        panel.set(title=axis, ylim=(0, 1.04))
    for panel in panels[len(axes) :]:
        panel.set_axis_off()
    panels[0].legend(fontsize="small")
    save_figure(figure, path)


def draw_transfer(path: Path, folds: Sequence[Result], base: Result, seed: int) -> None:
    """AUROC on left-out families: STOP without them, STOP trained on all, confidence."""
    figure, [panel] = new_figure(1, width=8, height=3.4)
    for step, name in enumerate(("STOP without them", "STOP trained on all", "confidence")):
        found = []
        for fold in folds:
            point, only = (base, frozenset(fold.problem_ids)) if step == 1 else (fold, None)
            method = CONFIDENCE.name if step == 2 else STOP.name
            found.append(interval_of(point, method, "within", seed, only))
        places = [place + 0.25 * (step - 1) for place in range(len(folds))]
        known = [(place, x) for place, x in zip(places, found, strict=True) if x]
        heights = [x.value for _, x in known]
        bars = [[x.value - x.low for _, x in known], [x.high - x.value for _, x in known]]
        panel.bar([place for place, _ in known], heights, 0.25, yerr=bars, label=name)
    panel.axhline(0.5, color="grey", linestyle=":")
    names = ["all" if fold.value == "all" else "\n".join(fold.families) for fold in folds]
    panel.set_xticks(range(len(folds)), names)
    panel.set(title="AUROC within problems of families left out", ylim=(0, 1.04))
    panel.legend(fontsize="small", loc="lower right")
    save_figure(figure, path)


def _place(value: str) -> float:
    """Numbers in their order, what is no number first."""
    try:
        return float(value)
    except ValueError:
        return -1.0


def _errors(panel: Axes, places: Sequence[float], found: Sequence[Interval], label: str) -> None:
    bars = [[x.value - x.low for x in found], [x.high - x.value for x in found]]
    panel.errorbar(places, [x.value for x in found], bars, marker=".", capsize=2, label=label)
