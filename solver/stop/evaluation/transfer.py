"""Trained on one set of problems, tested on another: learned methods beside confidence, as a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from solver.files.tables import bracketed, markdown_table, percent, plain, points
from solver.scorers import Need, find_scorer
from solver.scorers.confidence import CONFIDENCE
from solver.stop.evaluation.compare import ALL, differences, row
from solver.stop.evaluation.scoring import Marked

Pair = tuple[str, str]  # trained on, tested on


def transfer_table(tested: Mapping[Pair, Sequence[Marked]], keep: int, seed: int) -> list[str]:
    """Lines of Markdown: for each pair the learned methods, and their difference from confidence."""
    head = ["trained on", "tested on", "problems", "method", "average", "- confidence", "vote",
            "AUROC within", "Brier"]  # fmt: skip
    cells = []
    for (trained_on, tested_on), marked in tested.items():
        methods = dict.fromkeys(name for unit in marked for name in unit.scores)
        for method in filter(_is_learned, methods):
            found = row(marked, method, keep, ALL, seed)
            minus = next(
                (
                    each.interval
                    for each in differences(marked, method, keep, ALL, seed)
                    if (each.theirs, each.what) == (CONFIDENCE.name, "average")
                ),
                None,
            )
            cells.append([
                trained_on, tested_on, str(found.num_problems), method, percent(found.average),
                points(minus), percent(found.vote), bracketed(found.within), plain(found.brier),
            ])  # fmt: skip
    return markdown_table(head, cells)


def _is_learned(method: str) -> bool:
    return bool(find_scorer(method).needs & {Need.ADAPTER, Need.REWARD_MODEL})
