"""Numbers as people and programs read them: tables in Markdown and CSV, intervals, durations."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from solver.policy.statistics import Interval


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown with columns of equal width, which reads well on a terminal too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * max(1, width) for width in widths]
    return [
        "| " + " | ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) + " |"
        for row in (head, rule, *rows)
    ]


def csv_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The text of a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def exact(interval: Interval | None) -> list[float | str]:
    """Value, low and high for a CSV file; three empty cells for None."""
    if interval is None:
        return ["", "", ""]
    return [round(number, 6) for number in (interval.value, interval.low, interval.high)]


def bracketed(interval: Interval | None, form: str = ".3f", times: float = 1) -> str:
    """`0.512 [0.480, 0.545]`, each number `times` as large in the format `form`; `-` for None."""
    if interval is None:
        return "-"
    value, low, high = (times * x for x in (interval.value, interval.low, interval.high))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def percent(interval: Interval | None) -> str:
    """A share of 1 in percent: `51.2 [48.0, 54.5]`."""
    return bracketed(interval, ".1f", 100)


def points(interval: Interval | None) -> str:
    """A difference of shares in points: `+1.2 [-0.5, +2.9]`; bold if its interval leaves 0 out."""
    text = bracketed(interval, "+.1f", 100)
    return f"**{text}**" if interval is not None and interval.clear else text


def plain(value: float | None) -> str:
    """Three decimals; `-` for None."""
    return "-" if value is None else f"{value:.3f}"


def duration(seconds: float) -> str:
    """`8.4s`, `2m05s`, `1h02m`."""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds % 1 else f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
