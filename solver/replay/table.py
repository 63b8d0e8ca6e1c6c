"""Sweeps and counterfactuals as Markdown, which reads well on a terminal too."""

from __future__ import annotations

from collections.abc import Sequence

from solver.policy.statistics import Interval
from solver.replay.counterfactuals import (
    Pruned,
    ScoreQuality,
    StopRule,
    leader_shares,
    pruned,
    score_qualities,
    stop_rules,
    votes_over_time,
)
from solver.replay.policy import Policy
from solver.replay.speeds import Speeds
from solver.replay.sweep import Replay, Row

_MOMENTS = (0.25, 0.5, 0.75, 1.0)


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
    return _table(lines[0], lines[1:])


def _sweep_cells(number: int, row: Row) -> list[str]:
    policy, none = row.policy, row.policy.scorer == "none"
    return [
        str(number),
        "*" if row.front else "",
        str(policy.launch),
        "-" if none else str(policy.keep),
        "-" if none else str(policy.mark),
        policy.scorer,
        policy.vote.rule,
        policy.vote.stop,
        "-" if policy.limit_s is None else duration(policy.limit_s),
        _percent(row.accuracy),
        _percent(row.average),
        _whole(row.tokens),
        " ".join(
            [
                duration(row.seconds.value),
                f"[{duration(row.seconds.low)}, {duration(row.seconds.high)}]",
            ]
        ),
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


def counterfactual_lines(replay: Replay, policy: Policy) -> list[str]:
    """All sections for one policy."""
    ends = [
        pruned(tape, policy, recording.config.seed)
        for recording, tapes in zip(replay.recordings, replay.tapes, strict=True)
        for tape in tapes
    ]
    tapes = [tape for tapes in replay.tapes for tape in tapes]
    return [
        f"## Pruning {policy.launch} -> {policy.keep} at {policy.mark} by {policy.scorer}",
        "",
        *pruned_lines(ends),
        "",
        f"## Scores at mark {policy.mark}",
        "",
        *quality_lines(score_qualities(tapes, policy.mark)),
        "",
        "## Votes over time",
        "",
        *leader_lines(replay),
        "",
        "## Rules that stop early",
        "",
        *rule_lines(stop_rules(replay, policy)),
    ]


def pruned_lines(ends: Sequence[Pruned]) -> list[str]:
    """What voters and dropped would have answered, and whether dropping them changed an answer."""

    def cells(name: str, right: int, counts: int, silent: int) -> list[str]:
        share = f"{right / counts:.1%}" if counts else "-"
        return [name, str(counts), str(right), share, str(silent)]

    voters, out = ([getattr(end, name) for end in ends] for name in ("voters", "dropped"))
    rows = [
        cells(
            "voters",
            sum(end.right_voters for end in ends),
            sum(sum(counts.values()) for counts in voters),
            sum(counts.get(None, 0) for counts in voters),
        ),
        cells(
            "dropped",
            sum(end.right_dropped for end in ends),
            sum(sum(counts.values()) for counts in out),
            sum(counts.get(None, 0) for counts in out),
        ),
    ]
    lost = [end.problem_id for end in ends if end.lost]
    won = [end.problem_id for end in ends if end.won]
    gone = [end.problem_id for end in ends if end.right_dropped and not end.right_voters]
    return [
        *_table(["", "trajectories", "right", "share", "no answer"], rows),
        "",
        f"Of {len(ends)} problems, pruning lost the right answer of {_named(lost)} and found that of"
        f" {_named(won)}, against the vote of all. Every right trajectory was dropped in"
        f" {_named(gone)}.",
    ]


def quality_lines(qualities: Sequence[ScoreQuality]) -> list[str]:
    """AUROC and Brier score of each scorer, then the calibration of those that give chances."""
    rows = [
        [q.scorer, str(q.num_prefixes), _plain(q.within), _plain(q.overall), _plain(q.brier)]
        for q in qualities
    ]
    lines = _table(["scorer", "prefixes", "AUROC within", "AUROC overall", "Brier"], rows)
    for quality in qualities:
        if quality.bins:
            cells = [
                [f"{b.predicted:.2f}", f"{b.observed:.2f}", str(b.count)] for b in quality.bins
            ]
            lines += ["", f"{quality.scorer}: chance said, share that was right, prefixes", ""]
            lines += _table(["said", "was", "prefixes"], cells)
    return lines


def leader_lines(replay: Replay) -> list[str]:
    """How early the final leader led."""
    problems = [
        votes_over_time(tape.record, recording.config.vote)
        for recording, tapes in zip(replay.recordings, replay.tapes, strict=True)
        for tape in tapes
    ]
    rows = [
        [f"{moment:.0%}", f"{led:.0%}", f"{final:.0%}"]
        for moment, led, final in leader_shares(problems, _MOMENTS)
    ]
    return _table(["time to the last ballot", "somebody leads", "the final leader leads"], rows)


def rule_lines(rules: Sequence[StopRule]) -> list[str]:
    """What each rule saves against `off`, the first of them."""
    base = rules[0]
    rows = [
        [
            rule.stop,
            str(rule.num_right),
            str(rule.num_changed),
            str(rule.num_early),
            f"{rule.tokens:,} ({rule.tokens / base.tokens - 1:+.1%})",
            f"{duration(rule.seconds)} ({rule.seconds / base.seconds - 1:+.1%})",
        ]
        for rule in rules
    ]
    return _table(["stop", "right", "changed", "stopped early", "tokens", "time"], rows)


def duration(seconds: float) -> str:
    """`8.4s`, `2m05s`, `1h02m`."""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds % 1 else f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def _named(ids: Sequence[str]) -> str:
    if not ids:
        return "none"
    shown = ", ".join(ids[:5])
    return f"{len(ids)} ({shown}{', ...' if len(ids) > 5 else ''})"


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{100 * interval.value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _whole(interval: Interval) -> str:
    return f"{interval.value:,.0f} [{interval.low:,.0f}, {interval.high:,.0f}]"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * max(1, width) for width in widths]
    return [
        "| " + " | ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) + " |"
        for row in (head, rule, *rows)
    ]
