"""Pictures for people: figures without a display, the same numbers to the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(
    columns: int, rows: int = 1, *, width: float = 5, height: float = 4
) -> tuple[Figure, list[Axes]]:
    """A figure and its panels, row by row; `width` and `height` of one panel in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)  # no display, whatever the environment says
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def save_figure(figure: Figure, path: Path, dpi: int = 100) -> None:
    """Write a PNG (or what the suffix says), without matplotlib's version in it."""
    figure.savefig(path, dpi=dpi, metadata={"Software": None})
