"""The journal of a run: its events, and how they are written, read, described and summed up.

It takes no decisions and does not depend on engines, kernels or the terminal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def to_frame(
    run: Path | str,
    kind: Literal["trajectories", "problems"] = "trajectories",
    library: Literal["pandas", "polars"] | None = None,
) -> Any:
    """A run folder as a DataFrame of pandas or polars: a row a trajectory, or a row a problem.

    `library` says which; by default it is the one that is installed (pandas, if both are). The columns
    are in docs/replay.md. Raises `InputError` for a folder that holds no run, or without a library.
    """
    from solver.journal.frames import frame  # which reads runs, and so journals

    return frame(Path(run), kind, library)
