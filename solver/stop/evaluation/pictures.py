"""The comparison as pictures: accuracy against tokens, calibration, ROC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from solver.scorers import GIVES_CHANCES
from solver.stop.calibration import calibration, chances, roc
from solver.stop.evaluation.compare import ALL, Row
from solver.stop.evaluation.scoring import Marked


def draw_tokens(path: Path, rows: Sequence[Row], mark: int) -> None:
    """Average and vote against tokens a problem, a line a method, a point a keep."""
    figure, panels = _figure(2)
    methods = dict.fromkeys(row.method for row in rows)
    for panel, what in zip(panels, ("average", "vote"), strict=True):
        for method in methods:
            line = sorted(
                (row.tokens, 100 * getattr(row, what).value)
                for row in rows
                if (row.method, row.mark, row.kind) == (method, mark, ALL)
            )
            panel.plot(*zip(*line, strict=True), marker=".", label=method)
        panel.set(title=f"{what} (%), mark {mark}", xlabel="sampled tokens a problem")
    panels[0].legend(fontsize="small")
    _save(figure, path)


def draw_calibration(path: Path, marked: Sequence[Marked]) -> None:
    """Observed against predicted share of right ends, for methods whose scores are chances."""
    figure, [panel] = _figure(1)
    panel.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for method in dict.fromkeys(
        name for unit in marked for name in unit.scores if name in GIVES_CHANCES
    ):
        scores, right = _pooled(marked, method)
        bins = calibration(chances(scores).tolist(), right)
        panel.plot(
            [b.predicted for b in bins], [b.observed for b in bins], marker=".", label=method
        )
    panel.set(title="calibration", xlabel="predicted", ylabel="observed")
    panel.legend(fontsize="small")
    _save(figure, path)


def draw_roc(path: Path, marked: Sequence[Marked]) -> None:
    """True against false positive rate over all rollouts of all problems."""
    figure, [panel] = _figure(1)
    panel.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for method in dict.fromkeys(name for unit in marked for name in unit.scores):
        scores, right = _pooled(marked, method)
        if any(right) and not all(right):
            panel.plot(*roc(scores, right), label=method)
    panel.set(title="ROC", xlabel="wrong ones kept", ylabel="right ones kept")
    panel.legend(fontsize="small")
    _save(figure, path)


def _pooled(marked: Sequence[Marked], method: str) -> tuple[list[float], list[bool]]:
    units = [unit for unit in marked if method in unit.scores]
    scores = [score for unit in units for score in unit.scores[method]]
    return scores, [right for unit in units for right in unit.right]


def _figure(num_panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * num_panels, 4), layout="constrained")
    FigureCanvasAgg(figure)  # no display, whatever the environment says
    return figure, list(figure.subplots(1, num_panels, squeeze=False)[0])


def _save(figure: Any, path: Path) -> None:
    # Without a date in the file, so that the same numbers are the same picture.
    figure.savefig(path, dpi=100, metadata={"Software": None})
