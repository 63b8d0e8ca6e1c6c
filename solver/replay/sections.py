"""The counterfactuals of one policy, a section each."""

from __future__ import annotations

from collections.abc import Sequence

from solver.files.tables import duration, markdown_table, plain
from solver.replay.counterfactuals import (
    Pruned,
    StopRule,
    leader_shares,
    pruned,
    stop_rules,
    votes_over_time,
)
from solver.replay.policy import Policy
from solver.replay.quality import ScoreQuality, score_qualities
from solver.replay.sweep import Replay
from solver.replay.ways import vote_ways
from solver.stop.evaluation.report import vote_table

_MOMENTS = (0.25, 0.5, 0.75, 1.0)


def counterfactual_lines(replay: Replay, policy: Policy) -> list[str]:
    """All sections for one policy."""
    ends = [
        pruned(problem, policy, recording.config.seed)
        for recording, problems in zip(replay.recordings, replay.problems, strict=True)
        for problem in problems
    ]
    problems = [problem for problems in replay.problems for problem in problems]
    pruning = "".join(f" -> {keep} at {mark}" for mark, keep in policy.checks)
    scores = []
    for mark, _ in policy.checks:
        qualities = quality_lines(score_qualities(problems, mark))
        scores += [f"## Scores at mark {mark}", "", *qualities, ""]
    return [
        f"## Pruning {policy.launch}{pruning} by {policy.scorer}",
        "",
        *pruned_lines(ends),
        "",
        *scores,
        "## Votes by other rules",
        "",
        *vote_table(vote_ways(replay, policy)),
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
        *markdown_table(["", "trajectories", "right", "share", "no answer"], rows),
        "",
        f"Of {len(ends)} problems, pruning lost the right answer of {_named(lost)} and found that of"
        f" {_named(won)}, against the vote of all. Every right trajectory was dropped in"
        f" {_named(gone)}.",
    ]


def quality_lines(qualities: Sequence[ScoreQuality]) -> list[str]:
    """AUROC and Brier score of each scorer, then the calibration of those that give chances."""
    rows = [
        [q.scorer, str(q.num_prefixes), plain(q.within), plain(q.overall), plain(q.brier)]
        for q in qualities
    ]
    lines = markdown_table(["scorer", "prefixes", "AUROC within", "AUROC overall", "Brier"], rows)
    for quality in qualities:
        if quality.bins:
            cells = [
                [f"{b.predicted:.2f}", f"{b.observed:.2f}", str(b.count)] for b in quality.bins
            ]
            lines += ["", f"{quality.scorer}: chance said, share that was right, prefixes", ""]
            lines += markdown_table(["said", "was", "prefixes"], cells)
    return lines


def leader_lines(replay: Replay) -> list[str]:
    """How early the final leader led."""
    problems = [
        votes_over_time(problem.history, recording.config.vote)
        for recording, problems in zip(replay.recordings, replay.problems, strict=True)
        for problem in problems
    ]
    rows = [
        [f"{moment:.0%}", f"{led:.0%}", f"{final:.0%}"]
        for moment, led, final in leader_shares(problems, _MOMENTS)
    ]
    return markdown_table(
        ["time to the last ballot", "there is a leader", "it is the final leader"], rows
    )


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
    return markdown_table(["stop", "right", "changed", "stopped early", "tokens", "time"], rows)


def _named(ids: Sequence[str]) -> str:
    if not ids:
        return "none"
    shown = ", ".join(ids[:5])
    return f"{len(ids)} ({shown}{', ...' if len(ids) > 5 else ''})"
