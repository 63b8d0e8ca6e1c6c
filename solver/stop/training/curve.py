"""The training curve as a picture: loss, Brier score and AUROC by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from solver.adapter.spec import Epoch
from solver.stop.figures import new_figure, save_figure


def draw_curve(path: Path, epochs: Sequence[Epoch], best_epoch: int, floor: float) -> None:
    """Write a PNG (or what the suffix says) with three panels; the best epoch is marked."""
    figure, panels = new_figure(3, width=10 / 3, height=3.2)
    places = [epoch.epoch + 1 for epoch in epochs]

    def line(panel: int, label: str, values: Sequence[float | None]) -> None:
        points = [float("nan") if value is None else value for value in values]
        panels[panel].plot(places, points, marker=".", label=label)

    line(0, "training", [epoch.train_loss for epoch in epochs])
    line(0, "validation", [epoch.validation.loss for epoch in epochs])
    line(1, "validation", [epoch.validation.brier for epoch in epochs])
    line(2, "all pairs", [epoch.validation.auroc for epoch in epochs])
    line(2, "within problems", [epoch.validation.within_auroc for epoch in epochs])
    panels[2].axhline(floor, color="grey", linestyle=":", label="floor")
    for panel, title in zip(panels, ("loss (nats)", "Brier score", "AUROC"), strict=True):
        panel.axvline(best_epoch + 1, color="grey", linewidth=0.8)
        panel.set(title=title, xlabel="epoch")
        panel.legend()
    save_figure(figure, path, dpi=120)
