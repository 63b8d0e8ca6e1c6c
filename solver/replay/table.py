"""A sweep as a table, and the clock that its times are by."""

from __future__ import annotations

from collections.abc import Sequence

from solver.files.tables import bracketed, duration, markdown_table, percent
from solver.replay.speeds import Speeds
from solver.replay.sweep import Row
from solver.scorers import Selection, find_scorer


def sweep_table(rows: Sequence[Row]) -> list[str]:
    """One line a policy; `*` marks those that no other beats in accuracy and time at once.

    The rule of the vote has a column where it is not the majority everywhere.
    """
    head = [
        "#", "", "launch", "keep", "mark", "scorer", "vote", "stop", "limit",
        "accuracy, %", "voters right, %", "tokens a problem", "time of the run", "in time, %",
    ]  # fmt: skip
    lines = [head, *(_sweep_cells(number, row) for number, row in enumerate(rows, 1))]
    if all(row.policy.vote.rule == "majority" for row in rows):
        place = head.index("vote")
        lines = [line[:place] + line[place + 1 :] for line in lines]
    return markdown_table(lines[0], lines[1:])


def _sweep_cells(number: int, row: Row) -> list[str]:
    policy = row.policy
    none = find_scorer(policy.scorer).selection is Selection.ALL
    return [
        str(number),
        "*" if row.front else "",
        str(policy.launch),
        "-" if none else ", ".join(str(check.keep) for check in policy.checks),
        "-" if none else ", ".join(str(check.mark) for check in policy.checks),
        policy.scorer,
        policy.vote.rule,
        policy.vote.stop,
        "-" if policy.limit_s is None else duration(policy.limit_s),
        percent(row.accuracy),
        percent(row.average),
        bracketed(row.tokens, ",.0f"),
        f"{duration(row.seconds.value)}"
        f" [{duration(row.seconds.low)}, {duration(row.seconds.high)}]",
        f"{100 * row.in_time.value:.0f}",
    ]


def speeds_lines(speeds: Speeds) -> list[str]:
    """What the simulated clock was set to."""
    checks = ", ".join(f"{name} {1e3 * s:.2g}" for name, s in sorted(speeds.check_s.items()))
    lines = [
        f"clock: a step {1e3 * speeds.step_s:.3g} ms + {1e3 * speeds.token_s:.3g} ms a stream,"
        f" {1e3 * speeds.encoded_s:.3g} ms an encoded token; k calls at once run k^{speeds.crowding:.2f}"
        f" times as long; start-up {speeds.load_s:.3g} s"
    ]
    return [*lines, f"checks, ms a prefix: {checks}"] if checks else lines
