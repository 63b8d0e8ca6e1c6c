"""The comparison as pictures: accuracy against tokens, calibration, ROC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from solver.scorers import gives_chances
from solver.stop.calibration import calibration, chances, roc
from solver.stop.evaluation.compare import ALL, Row
from solver.stop.evaluation.scoring import Marked
from solver.stop.figures import new_figure, save_figure


def draw_tokens(path: Path, rows: Sequence[Row], main: tuple[int, int, int]) -> None:
    """Average and vote against tokens at `main`'s launch and mark, a line a method, a point a keep."""
    launch, mark, _ = main
    figure, panels = new_figure(2)
    methods = dict.fromkeys(row.method for row in rows)
    for panel, what in zip(panels, ("average", "vote"), strict=True):
        for method in methods:
            line = sorted(
                (row.tokens, 100 * getattr(row, what).value)
                for row in rows
                if (row.method, row.launch, row.mark, row.kind) == (method, launch, mark, ALL)
            )
            panel.plot(*zip(*line, strict=True), marker=".", label=method)
        panel.set(title=f"{what} (%), mark {mark}", xlabel="sampled tokens a problem")
    panels[0].legend(fontsize="small")
    save_figure(figure, path)


def draw_calibration(path: Path, marked: Sequence[Marked]) -> None:
    """Observed against predicted share of right ends, for methods whose scores are chances."""
    figure, [panel] = new_figure(1)
    panel.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for method in dict.fromkeys(
        name for unit in marked for name in unit.scores if gives_chances(name)
    ):
        scores, right = _pooled(marked, method)
        bins = calibration(chances(scores).tolist(), right)
        panel.plot(
            [b.predicted for b in bins], [b.observed for b in bins], marker=".", label=method
        )
    panel.set(title="calibration", xlabel="predicted", ylabel="observed")
    panel.legend(fontsize="small")
    save_figure(figure, path)


def draw_roc(path: Path, marked: Sequence[Marked]) -> None:
    """True against false positive rate over all rollouts of all problems."""
    figure, [panel] = new_figure(1)
    panel.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for method in dict.fromkeys(name for unit in marked for name in unit.scores):
        scores, right = _pooled(marked, method)
        if any(right) and not all(right):
            panel.plot(*roc(scores, right), label=method)
    panel.set(title="ROC", xlabel="wrong ones kept", ylabel="right ones kept")
    panel.legend(fontsize="small")
    save_figure(figure, path)


def _pooled(marked: Sequence[Marked], method: str) -> tuple[list[float], list[bool]]:
    units = [unit for unit in marked if method in unit.scores]
    scores = [score for unit in units for score in unit.scores[method]]
    return scores, [right for unit in units for right in unit.right]
