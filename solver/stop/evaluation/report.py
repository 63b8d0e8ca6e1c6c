"""The comparison as Markdown for people and as CSV for programs. Shares are printed in percent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from solver.policy.statistics import Interval
from solver.stop.evaluation.compare import ALL, Difference, Row

_FIELDS = (
    "mark", "keep", "method", "kind", "problems",
    "average", "average_low", "average_high", "vote", "vote_low", "vote_high",
    "tokens", "saving", "saving_low", "saving_high",
    "within_auroc", "within_low", "within_high", "auroc", "brier", "check_seconds",
)  # fmt: skip


def csv_of(rows: Iterable[Row]) -> str:
    """Every row with all of its numbers; shares of 1, empty where there is none."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FIELDS)
    for row in rows:
        writer.writerow(
            [
                row.mark, row.keep, row.method, row.kind, row.num_problems,
                *_numbers(row.average), *_numbers(row.vote),
                round(row.tokens, 1), *_numbers(row.saving),
                *_numbers(row.within), _number(row.overall), _number(row.brier),
                _number(row.seconds),
            ]
        )  # fmt: skip
    return text.getvalue()


def markdown(
    title: str,
    command: str,
    facts: Sequence[str],
    rows: Sequence[Row],
    differences: Sequence[Difference],
    main: tuple[int, int],
    pictures: Sequence[str],
) -> str:
    """The report: `command` that makes it, the table at the `main` (mark, keep), then the rest."""
    at_main = [row for row in rows if (row.mark, row.keep) == main]
    kinds = [kind for kind in dict.fromkeys(row.kind for row in rows) if kind != ALL]
    parts = [f"# {title}", "", f"    {command}", "", *facts, ""]
    parts += _main_table([row for row in at_main if row.kind == ALL], main)
    parts += _difference_table([d for d in differences if d.kind == ALL])
    for kind in kinds:
        parts += [f"## Kind: {kind}", ""]
        parts += _small_table([row for row in at_main if row.kind == kind])
        parts += _difference_table([d for d in differences if d.kind == kind])
    parts += _sweep([row for row in rows if row.kind == ALL])
    parts += [f"![{name}]({name})" for name in pictures]
    return "\n".join(parts).rstrip() + "\n"


def _main_table(rows: Sequence[Row], main: tuple[int, int]) -> list[str]:
    lines = [
        f"## Mark {main[0]}, keep {main[1]}",
        "",
        "| method | average | vote | tokens | fewer tokens | AUROC within | AUROC | Brier | Check, ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        seconds = "-" if row.seconds is None else f"{1000 * row.seconds:.1f}"
        lines.append(
            f"| {row.method} | {_percent(row.average)} | {_percent(row.vote)} | {row.tokens:.0f} "
            f"| {_percent(row.saving)} | {_auroc(row.within)} | {_plain(row.overall)} "
            f"| {_plain(row.brier)} | {seconds} |"
        )
    return [*lines, ""]


def _small_table(rows: Sequence[Row]) -> list[str]:
    lines = ["| method | average | vote | tokens | AUROC within |", "|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.method} | {_percent(row.average)} | {_percent(row.vote)} | {row.tokens:.0f} "
            f"| {_auroc(row.within)} |"
        )
    return [*lines, ""]


def _difference_table(differences: Sequence[Difference]) -> list[str]:
    """One row a pair of methods: the difference in average and in vote, in points."""
    pairs: dict[tuple[str, str], dict[str, Interval]] = {}
    for each in differences:
        pairs.setdefault((each.ours, each.theirs), {})[each.what] = each.interval
    if not pairs:
        return []
    lines = ["| difference, points | average | vote |", "|---|---|---|"]
    for (ours, theirs), found in pairs.items():
        lines.append(
            f"| {ours} - {theirs} | {_points(found['average'])} | {_points(found['vote'])} |"
        )
    return [*lines, ""]


def _sweep(rows: Sequence[Row]) -> list[str]:
    settings = sorted({(row.mark, row.keep) for row in rows})
    if len(settings) < 2:
        return []
    methods = list(dict.fromkeys(row.method for row in rows))
    found = {(row.mark, row.keep, row.method): row for row in rows}
    lines = [
        "## Sweep of mark and keep",
        "",
        "Average / vote, percent.",
        "",
        "| mark | keep | " + " | ".join(methods) + " |",
        "|---|---|" + "---|" * len(methods),
    ]
    for mark, keep in settings:
        cells = [
            f"{100 * cell.average.value:.1f} / {100 * cell.vote.value:.1f}"
            for method in methods
            for cell in [found[mark, keep, method]]
        ]
        lines.append(f"| {mark} | {keep} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _points(interval: Interval) -> str:
    text = f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    return f"**{text}**" if interval.clear else text


def _auroc(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _number(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)


def _numbers(interval: Interval | None) -> list[float | str]:
    if interval is None:
        return ["", "", ""]
    return [_number(interval.value), _number(interval.low), _number(interval.high)]
